import datetime
import io
import re
import struct
import zipfile
from pathlib import Path

import pytest
from docx.oxml import parse_xml
from msoffcrypto.format.ooxml import OOXMLFile
from openpyxl.styles import Font
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.util import Inches

OLD = (Path(__file__).parent / "data" / "old.xls").read_bytes()
MATH = "http://schemas.openxmlformats.org/officeDocument/2006/math"
W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def report(document):
    document.core_properties.title = "年报"
    document.add_heading("第一章", 1)
    paragraph = document.add_paragraph("普通")
    paragraph.add_run("粗体").bold = True
    paragraph.add_run("斜体").italic = True
    document.add_heading("Details", 2)
    for text in ("one", "two"):
        document.add_paragraph(text, style="List Bullet")
    document.add_paragraph("first", style="List Number")
    table = document.add_table(2, 2)
    for cell, text in zip(table._cells, ["城市", "a|b", "北京", "2"], strict=True):
        cell.text = text


def locked(content, password="secret"):
    buffer = io.BytesIO()
    OOXMLFile(io.BytesIO(content)).encrypt(password, buffer)
    return buffer.getvalue()


def without(content, *parts, **changed):
    """The package without some parts, or with others in their place."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            if info.filename not in parts:
                new.writestr(info.filename, changed.get(info.filename, old.read(info)))
    return buffer.getvalue()


def test_word(parse, make):
    result = parse("a.docx", make.docx(report))
    assert result["content"] == (
        "# 第一章\n\n普通**粗体***斜体*\n\n## Details\n\n- one\n- two\n\n1. first\n\n"
        "| 城市 | a\\|b |\n| --- | --- |\n| 北京 | 2 |"
    )
    assert (result["metadata"]["format"], result["metadata"]["title"]) == ("docx", "年报")


def test_word_lists_whose_level_is_in_the_name_of_the_style(parse, make):
    def build(document):
        for style in ("List Bullet", "List Bullet 2", "List Bullet 3", "List Bullet", "List Number", "List Number 2"):
            document.add_paragraph(style, style=style)

    assert parse("a.docx", make.docx(build))["content"] == (
        "- List Bullet\n  - List Bullet 2\n    - List Bullet 3\n- List Bullet\n\n1. List Number\n   1. List Number 2"
    )


def test_word_equations(parse, make):
    power = "<m:sSup><m:e><m:r><m:t>c</m:t></m:r></m:e><m:sup><m:r><m:t>2</m:t></m:r></m:sup></m:sSup>"
    half = "<m:f><m:num><m:r><m:t>a+b</m:t></m:r></m:num><m:den><m:r><m:t>2</m:t></m:r></m:den></m:f>"
    equation = f"<m:oMath><m:r><m:t>E=m</m:t></m:r>{power}</m:oMath><m:oMath>{half}</m:oMath>"
    xml = f'<w:p {W} xmlns:m="{MATH}"><w:r><w:t xml:space="preserve">So </w:t></w:r>{equation}</w:p>'
    content = make.docx(lambda document: document.element.body.insert(0, parse_xml(xml)))
    assert parse("a.docx", content)["content"] == "So E=mc^2(a+b)/2"


def test_word_links(parse, make):
    def build(document):
        part = document.part
        identity = part.relate_to("https://example.com/x", part_type("hyperlink"), is_external=True)
        paragraph = document.add_paragraph("see ")
        paragraph._p.append(
            parse_xml(
                f'<w:hyperlink {W} xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships" '
                f'r:id="{identity}"><w:r><w:t>this</w:t></w:r></w:hyperlink>'
            )
        )

    assert parse("a.docx", make.docx(build))["content"] == "see [this](https://example.com/x)"


def part_type(name):
    return f"http://schemas.openxmlformats.org/officeDocument/2006/relationships/{name}"


def test_word_footnotes(parse, make):
    from docx.opc.constants import CONTENT_TYPE
    from docx.opc.packuri import PackURI
    from docx.opc.part import Part

    notes = f'<w:footnotes {W}><w:footnote w:id="2"><w:p><w:r><w:t>来源：年报</w:t></w:r></w:p>'
    notes += "</w:footnote></w:footnotes>"

    def build(document):
        kind = CONTENT_TYPE.WML_FOOTNOTES
        part = Part(PackURI("/word/footnotes.xml"), kind, notes.encode(), document.part.package)
        document.part.relate_to(part, part_type("footnotes"))
        paragraph = document.add_paragraph("增长")
        paragraph._p.append(parse_xml(f'<w:r {W}><w:footnoteReference w:id="2"/></w:r>'))

    content = parse("a.docx", make.docx(build))["content"]
    assert content.startswith("增长")
    assert "来源：年报" in content


def test_sheets(parse, make):
    def build(book):
        sheet = book.active
        sheet.title = "数据"
        sheet.append(["名称", "n", "when", "at", "yes", "share"])
        sheet.append(["甲", 1, datetime.date(2024, 1, 2), datetime.datetime(2024, 1, 2, 3, 4), True, 0.125])
        sheet.append(["line\nbreak", 1234567890123, None, None, False, 1e20])
        sheet.merge_cells("A5:B6")
        sheet["A5"] = "合并"
        book.create_sheet("空")
        hidden = book.create_sheet("Hidden")
        hidden.sheet_state = "hidden"
        hidden["C4"] = "x"

    result = parse("a.xlsx", make.xlsx(build))
    assert result["content"] == (
        "## 数据\n\n| 名称 | n | when | at | yes | share |\n| --- | --- | --- | --- | --- | --- |\n"
        "| 甲 | 1 | 2024-01-02 | 2024-01-02 03:04:00 | TRUE | 0.125 |\n"
        "| line<br>break | 1234567890123 |  |  | FALSE | 1e+20 |\n| 合并 |  |  |  |  |  |\n\n"
        "## Hidden\n\n| x |\n| --- |"
    )
    assert result["metadata"]["sheets"] == ["数据", "空", "Hidden"]
    assert result["metadata"]["warnings"] == ["hidden sheets are included: Hidden"]


def test_a_stray_cell_far_away(parse, refused, make):
    def build(book):
        book.active["A1"] = "here"
        book.active["XFD1048576"] = "far"

    def styled(book):
        build(book)
        book.active["XFD1048576"].value = None
        book.active["XFD1048576"].font = Font(bold=True)

    assert "cell XFD1048576" in refused("TOO_LARGE", "a.xlsx", make.xlsx(build))
    assert "here" in parse("a.xlsx", make.xlsx(styled))["content"]


def test_cached_values_of_formulas(parse, make):
    def build(book):
        book.active.append(["sum"])
        book.active.append(["=1+2"])

    with_value = without(make.xlsx(build))
    name = "xl/worksheets/sheet1.xml"
    with zipfile.ZipFile(io.BytesIO(with_value)) as archive:
        xml = re.sub(rb"<v ?/>|<v></v>", b"<v>3</v>", archive.read(name))
    assert parse("a.xlsx", without(with_value, **{name: xml}))["content"].endswith("| 3 |")


def test_old_sheets(parse):
    result = parse("a.xls", OLD)
    assert result["content"] == (
        "## 销售\n\n| 城市 | 金额 |\n| --- | --- |\n| 北京 | 12 |\n| 上海 | 3.5 |\n| 日期 | 2024-05-06 |"
    )
    assert result["metadata"]["format"] == "xls"


@pytest.mark.parametrize(
    ("stream", "words"),
    [("WordDocument", "DOCX"), ("PowerPoint Document", "PPTX"), ("__properties_version1.0", "EML"), ("Other", "old")],
)
def test_old_formats(refused, stream, words):
    name = "Workbook".encode("utf-16-le")
    at = OLD.index(name + bytes(8))
    raw = stream.encode("utf-16-le")
    entry = raw.ljust(64, b"\0") + struct.pack("<H", len(raw) + 2)
    assert words in refused("UNSUPPORTED_FORMAT", "a.doc", OLD[:at] + entry + OLD[at + 66 :])


def test_slides(parse, make):
    def build(presentation):
        slide = presentation.slides.add_slide(presentation.slide_layouts[1])
        slide.shapes.title.text = "季度\n总结"
        frame = slide.placeholders[1].text_frame
        frame.text = "增长"
        below = frame.add_paragraph()
        below.text, below.level = "一成", 1
        slide.notes_slide.notes_text_frame.text = "说慢点"
        slide = presentation.slides.add_slide(presentation.slide_layouts[6])
        table = slide.shapes.add_table(2, 2, Inches(1), Inches(1), Inches(4), Inches(1)).table
        for cell, text in zip(table.iter_cells(), "abcd", strict=True):
            cell.text = text
        data = CategoryChartData()
        data.categories = ["Q1", "Q2"]
        data.add_series("销售", (1.5, 2))
        slide.shapes.add_chart(XL_CHART_TYPE.PIE, Inches(1), Inches(3), Inches(3), Inches(2), data)
        slide.shapes.add_textbox(Inches(1), Inches(6), Inches(3), Inches(1)).text_frame.text = "free text"

    result = parse("a.pptx", make.pptx(build))
    assert result["content"] == (
        "## 1. 季度 总结\n\n- 增长\n  - 一成\n\n> 说慢点\n\n## 2.\n\n| a | b |\n| --- | --- |\n| c | d |\n\n"
        "|  | 销售 |\n| --- | --- |\n| Q1 | 1.5 |\n| Q2 | 2 |\n\nfree text"
    )
    assert result["metadata"]["pages"] == 2


def test_passwords(parse, refused, make):
    content = locked(make.docx(report))
    assert "give it as `password`" in refused("ENCRYPTED_DOCUMENT", "a.docx", content)
    assert "not right" in refused("ENCRYPTED_DOCUMENT", "a.docx", content, password="wrong")
    assert "第一章" in parse("a.docx", content, password="secret")["content"]


def test_a_document_under_another_name(parse, make):
    assert parse("a.pdf", make.docx(report))["metadata"]["format"] == "docx"
    assert parse("b", make.docx(report))["metadata"]["format"] == "docx"


def test_damage(refused, make):
    content = make.docx(report)
    refused("CORRUPT_FILE", "a.docx", content[: len(content) // 2])
    refused("CORRUPT_FILE", "a.docx", without(content, "word/document.xml"))
    refused("CORRUPT_FILE", "a.docx", without(content, **{"word/document.xml": b"<w:document"}))
    refused("CORRUPT_FILE", "a.xls", OLD[:700])
    refused("CORRUPT_FILE", "a.xlsx", without(make.xlsx(lambda book: None), "xl/workbook.xml"))
    refused("CORRUPT_FILE", "a.pptx", without(make.pptx(lambda p: None), "ppt/presentation.xml"))
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 0xFF
    refused("CORRUPT_FILE", "a.docx", bytes(flipped))


def test_nothing_in_it(refused, make):
    refused("NO_TEXT", "a.docx", make.docx(lambda document: None))
    refused("NO_TEXT", "a.xlsx", make.xlsx(lambda book: None))


def test_bombs(refused, make):
    content = make.docx(report)
    laughs = b'<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>'
    refused("UNSAFE_FILE", "a.docx", without(content, **{"word/document.xml": b"<?xml version='1.0'?>" + laughs}))
    refused("TOO_LARGE", "a.docx", without(content, **{"word/document.xml": b" " * (65 << 20)}))
    deep = f"<w:document {W}><w:body>".encode() + b"<w:p>" * 100_000
    refused("CORRUPT_FILE", "a.docx", without(content, **{"word/document.xml": deep}))


def sheet_of(*cells):
    def build(book):
        for row, (value, code) in enumerate(cells, 1):
            cell = book.active.cell(row, 2, value)
            book.active.cell(row, 1, f"r{row}")
            cell.number_format = code

    return build


@pytest.mark.parametrize(
    ("value", "code", "text"),
    [
        (0.125, "0.0%", "12.5%"),
        (0.125, "0%", "13%"),
        (-0.05, "0.0%;[Red]-0.0%", "-5.0%"),
        (1234.5, '#,##0.00 "€"', "1,234.50 €"),
        (1234.5, "[$¥-804]#,##0.00", "¥1,234.50"),
        (-1234.5, "$#,##0.00;[Red]($#,##0.00)", "($1,234.50)"),
        (0, '_("$"* #,##0.00_);_("$"* (#,##0.00);_("$"* "-"??_);_(@_)', "$-"),
        (1234567, "#,##0", "1,234,567"),
        (-0.001, "0.00", "0.00"),
        (2500000, '0.0,,"M"', "2.5M"),
        (123456, "0.00E+00", "1.23E+05"),
        (123, "00000", "00123"),
        (12, "0\\°", "12°"),
        (5, '0.0 "kg"', "5.0 kg"),
        (0.1, "General", "0.1"),
        (0.5, "# ?/?", "0.5"),
        (1500, '[>1000]0.0,"K";0', "1500"),
        (7, ";;;", "7"),
        (13800138000, "0", "13800138000"),
        (datetime.date(2024, 12, 31), "DD.MM.YYYY", "2024-12-31"),
        (datetime.time(13, 5), "h:mm AM/PM", "13:05:00"),
        ("#DIV/0!", "General", "#DIV/0!"),
    ],
)
def test_cells_as_the_sheet_shows_them(parse, make, value, code, text):
    content = parse("a.xlsx", make.xlsx(sheet_of(("head", "General"), (value, code))))["content"]
    assert content.split("\n")[-1] == f"| r2 | {text} |"


def test_formulas_without_a_result_are_shown(parse, make):
    result = parse("a.xlsx", make.xlsx(sheet_of((5, "General"), ("=B1*2", "General"), ("=1/0", "0%"))))
    assert result["content"].endswith("| r1 | 5 |\n| --- | --- |\n| r2 | =B1*2 |\n| r3 | =1/0 |")
    assert "2 formulas on Sheet have no stored result" in result["message"]
    alone = parse("b.xlsx", make.xlsx(lambda book: book.active.__setitem__("C3", "=A1")))
    assert "| =A1 |" in alone["content"]
