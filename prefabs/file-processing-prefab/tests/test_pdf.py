import io

import pytest
from pypdf import PdfReader, PdfWriter
from pypdf.generic import RectangleObject
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

BODY = "第三季度销售额增长了百分之十二。" * 8


def test_the_call_of_the_guide(prefab, parse, make):
    content = make.pdf(("Heading1", "年度报告"), ("Normal", BODY), title="报告 2024")
    result = parse("报告.pdf", content)
    assert result["success"], result
    assert result["content"] == f"# 年度报告\n\n{BODY}"
    assert prefab.outputs() == {"报告.md": f"# 年度报告\n\n{BODY}\n\n".encode()}
    metadata = result["metadata"]
    assert (metadata["format"], metadata["pages"], metadata["title"]) == ("pdf", 1, "报告 2024")
    assert result["message"] == "turned 报告.pdf into Markdown"


def test_levels_of_headings(parse, make):
    story = [
        ("Title", "The report"),
        ("Heading2", "Sales"),
        ("Normal", "The body of the text. " * 20),
        ("Heading2", "Costs"),
        ("Normal", "More text of the body."),
    ]
    content = parse("a.pdf", make.pdf(*story))["content"]
    assert [line for line in content.splitlines() if line.startswith("#")] == ["# The report", "## Sales", "## Costs"]
    assert "The body of the text. The body" in content


def test_ruled_tables(parse, make):
    rows = [["Name", "数量", "Price"], ["Apple", "3", "1.50"], ["梨", "12", "0.75"]]
    content = parse("a.pdf", make.pdf(("Normal", "Before."), rows, ("Normal", "After.")))["content"]
    table = "| Name | 数量 | Price |\n| --- | --- | --- |\n| Apple | 3 | 1.50 |\n| 梨 | 12 | 0.75 |"
    assert content == f"Before.\n\n{table}\n\nAfter."


def test_paragraphs_lists_and_hyphens(parse, make):
    lines = [
        "First line of a paragraph that is",
        "continued here.",
        "",
        "Another one.",
        "",
        "• one",
        "• two",
        "",
        "End.",
    ]
    content = make.pages([(72, 700 - 14 * number, line) for number, line in enumerate(lines)])
    text = "First line of a paragraph that is continued here.\n\nAnother one.\n\n- one\n- two\n\nEnd."
    assert parse("a.pdf", content)["content"] == text


def test_a_table_of_contents(parse, make):
    lines = ["1 Introduction . . . . . . . . . 1", "1.1 Why ............. 2", "", "", "Body text."]
    content = make.pages([(72, 700 - 14 * number, line) for number, line in enumerate(lines)])
    assert parse("a.pdf", content)["content"] == "- 1 Introduction … 1\n- 1.1 Why … 2\n\nBody text."


def test_words_that_are_divided(parse, make):
    content = make.pages([(72, 700, "It is a long manip-"), (72, 686, "ulation of words.")])
    assert parse("a.pdf", content)["content"] == "It is a long manipulation of words."


def test_two_columns(parse, make):
    left = [(72, 700 - 14 * n, f"left {n} of the story") for n in range(5)]
    right = [(320, 700 - 14 * n, f"right {n} of the story") for n in range(5)]
    content = parse("a.pdf", make.pages(left + right))["content"]
    assert content.index("left 4") < content.index("right 0")


def test_running_titles_are_left_out(parse, make):
    body = ["alpha", "beta", "gamma", "delta"]
    pages = [
        [(72, 815, "Annual report"), (72, 500, f"Text {name}."), (300, 20, f"Page {n} of 4")]
        for n, name in enumerate(body)
    ]
    result = parse("a.pdf", make.pages(*pages))
    assert result["content"] == "\n\n".join(f"Text {name}." for name in body)
    assert result["metadata"]["warnings"] == ["running titles and page numbers were left out"]


def test_a_scan(refused, make):
    from PIL import Image

    buffer = io.BytesIO()
    canvas = Canvas(buffer)
    canvas.drawImage(ImageReader(Image.new("L", (40, 40), 200)), 0, 0, 500, 700)
    canvas.save()
    assert "OCR" in refused("SCANNED_DOCUMENT", "a.pdf", buffer.getvalue())
    assert "扫描件" in refused("SCANNED_DOCUMENT", "a.pdf", buffer.getvalue(), language="zh")
    assert "no text" in refused("NO_TEXT", "b.pdf", make.pages([]))


def test_a_page_without_text_is_named(parse, make):
    result = parse("a.pdf", make.pages([(72, 700, "one")], [], [(72, 700, "three")]))
    assert result["metadata"]["warnings"] == ["no text on page 2; a scan, perhaps"]


def test_passwords(parse, refused, make):
    locked = make.locked_pdf(make.pdf(("Normal", "inside"), [["a", "b"], ["c", "d"]]))
    assert "give it as `password`" in refused("ENCRYPTED_DOCUMENT", "a.pdf", locked)
    assert "not right" in refused("ENCRYPTED_DOCUMENT", "a.pdf", locked, password="wrong")
    assert "| c | d |" in parse("a.pdf", locked, password="secret")["content"]
    unlocked = make.locked_pdf(make.pdf(("Normal", "only printing is forbidden")), user="")
    assert parse("a.pdf", unlocked)["success"]


def test_damage(parse, refused, make):
    content = make.pdf(("Normal", "text"))
    refused("CORRUPT_FILE", "a.pdf", b"%PDF-1.7\n" + bytes(range(256)) * 20)
    refused("CORRUPT_FILE", "a.pdf", content[:300])
    assert parse("b.pdf", b"junk before it\n" + content)["success"]


def test_a_pdf_under_another_name(parse, make):
    assert parse("a.docx", make.pdf(("Normal", "text")))["metadata"]["format"] == "pdf"


@pytest.mark.parametrize("change", ["turned", "offset"])
def test_tables_on_pages_that_are_turned_or_begin_elsewhere(parse, make, change):
    writer = PdfWriter(PdfReader(io.BytesIO(make.pdf(("Normal", "Before."), [["a", "b"], ["c", "d"]]))))
    page = writer.pages[0]
    if change == "turned":
        page.rotate(90)
        page.transfer_rotation_to_content()
        page.rotate(-90)
    else:
        page.mediabox = page.cropbox = RectangleObject((-50, -30, 560, 800))
    buffer = io.BytesIO()
    writer.write(buffer)
    content = parse("a.pdf", buffer.getvalue())["content"]
    assert content == "Before.\n\n| a | b |\n| --- | --- |\n| c | d |"


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_pages_that_are_shown_turned_though_their_letters_stand_upright(parse, make, angle):
    report = make.pdf(("Normal", "第一行。"), ("Normal", "Before."), [["a", "12"], ["c", "d"]])
    writer = PdfWriter(PdfReader(io.BytesIO(report)))
    writer.pages[0].rotate(angle)
    buffer = io.BytesIO()
    writer.write(buffer)
    for content, password in ((buffer.getvalue(), None), (make.locked_pdf(buffer.getvalue()), "secret")):
        result = parse("a.pdf", content, password=password)
        assert result["content"] == "第一行。\n\nBefore.\n\n| a | 12 |\n| --- | --- |\n| c | d |"


def test_what_is_filled_into_a_form(parse):
    buffer = io.BytesIO()
    canvas = Canvas(buffer)
    canvas.drawString(72, 700, "Name:")
    canvas.acroForm.textfield(name="name", value="Max Mustermann", x=150, y=690, width=200, height=20)
    canvas.acroForm.checkbox(name="agree", checked=True, x=150, y=655)
    canvas.acroForm.textfield(name="empty", x=150, y=600)
    canvas.save()
    assert parse("a.pdf", buffer.getvalue())["content"] == "Name:\n\n- **name:** Max Mustermann\n- **agree:** ☑"
