import io
import zipfile

import docx
import pytest
from docx.oxml import parse_xml
from pypdf import PdfReader, PdfWriter
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfgen.canvas import Canvas

REPORT = "第三季度销售额增长了百分之十二。"


def pdf(*pages):
    pdfmetrics.registerFont(UnicodeCIDFont("STSong-Light"))
    buffer = io.BytesIO()
    canvas = Canvas(buffer)
    for page in pages:
        canvas.setFont("STSong-Light", 12)
        for number, line in enumerate(page.splitlines()):
            canvas.drawString(72, 770 - 20 * number, line)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def encrypted(content, user):
    writer = PdfWriter(PdfReader(io.BytesIO(content)))
    writer.encrypt(user, "owner", algorithm="AES-256")
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def word(build):
    document = docx.Document()
    build(document)
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def text(prefab, name="a.txt", key="output"):
    return prefab.outputs()[f"{key}/{name}"].decode()


@pytest.mark.parametrize(("given", "written"), [("input", "output"), ("input_docs", "output_docs")])
def test_both_groups_of_files(prefab, given, written):
    prefab.put(given, "报告.pdf", pdf(REPORT, "Page two"))
    prefab.put(given, "notes.txt", "hello world")
    result = prefab.call("extract_text", language="zh")
    assert result["success"]
    assert set(prefab.outputs()) == {f"{written}/报告.txt", f"{written}/notes.txt"}
    assert text(prefab, "报告.txt", written) == f"{REPORT}\n\nPage two\n"
    assert result["message"] == "已提取 2 个文档的文本，共 19 字"
    assert result["data"]["pages"] == 2
    assert [d["word_count"] for d in result["data"]["documents"]] == [2, 17]
    assert result["content"] == f"# notes.txt\n\nhello world\n\n# 报告.pdf\n\n{REPORT}\n\nPage two"


def test_both_groups_at_once(prefab):
    prefab.put("input", "a.txt", "one")
    prefab.put("input_docs", "a.txt", "two")
    assert prefab.call("extract_text")["success"]
    assert prefab.outputs() == {"output/a.txt": b"one\n", "output_docs/a.txt": b"two\n"}


def test_no_document(prefab):
    result = prefab.call("extract_text", language="zh")
    assert (result["success"], result["error_code"]) == (False, "NO_INPUT")
    assert "没有提供文档" in result["error"]


def test_names_that_differ_only_in_their_extension(prefab):
    prefab.put("input", "a.txt", "text")
    prefab.put("input", "a.md", "markdown")
    prefab.call("extract_text")
    assert prefab.outputs() == {"output/a.txt": b"markdown\n", "output/a (2).txt": b"text\n"}


def test_one_failure_among_several(prefab):
    prefab.put("input", "good.txt", "fine")
    prefab.put("input", "坏.pdf", b"%PDF-1.7 and nothing more")
    result = prefab.call("extract_text")
    assert result["success"]
    assert result["message"].startswith("extracted the text of 1 document, 1 words in all; 1 failed: 坏.pdf: ")
    assert [(f["name"], f["error_code"]) for f in result["data"]["failed"]] == [("坏.pdf", "CORRUPT_FILE")]
    assert result["content"] == "fine"
    assert set(prefab.outputs()) == {"output/good.txt"}


# PDF


def test_pdf_protected_by_a_password(prefab):
    prefab.put("input", "a.pdf", encrypted(pdf("secret"), "geheim"))
    result = prefab.call("extract_text", language="zh-CN")
    assert (result["error_code"], result["error"]) == ("ENCRYPTED", "a.pdf: PDF 有密码保护")


def test_pdf_that_only_forbids_printing(prefab):
    prefab.put("input", "a.pdf", encrypted(pdf("readable"), ""))
    assert prefab.call("extract_text")["content"] == "readable"


def test_scanned_pdf(prefab):
    prefab.put("input", "a.pdf", pdf("", ""))
    result = prefab.call("extract_text")
    assert result["error_code"] == "NO_TEXT"
    assert "OCR" in result["error"]


def test_pdf_with_an_empty_page(prefab):
    prefab.put("input", "a.pdf", pdf("text", "", "more"))
    (document,) = prefab.call("extract_text")["data"]["documents"]
    assert (document["pages"], document["warnings"]) == (3, ["no text on page 2"])


def test_pdf_cut_short(prefab):
    whole = pdf(*["some words on a page"] * 5)
    prefab.put("input", "a.pdf", whole[: len(whole) // 3])
    assert prefab.call("extract_text")["error_code"] in ("CORRUPT_FILE", "NO_TEXT")


# Word


def test_word_document(prefab):
    def build(document):
        document.core_properties.title = "not text"
        document.add_heading("季度报告", 1)
        document.add_paragraph("Revenue grew.\tStrongly.\nNext line")
        table = document.add_table(rows=2, cols=2)
        for cell, value in zip(
            [c for row in table.rows for c in row.cells], ["地区", "金额", "华北", "120"], strict=True
        ):
            cell.text = value
        document.add_paragraph("After the table")

    prefab.put("input", "a.docx", word(build))
    result = prefab.call("extract_text")
    assert text(prefab) == ("季度报告\nRevenue grew.\tStrongly.\nNext line\n地区\t金额\n华北\t120\nAfter the table\n")
    assert result["data"]["documents"][0]["format"] == "docx"


def test_word_insertions_deletions_fields_and_text_boxes(prefab):
    body = """<w:p><w:r><w:t>kept </w:t></w:r><w:ins><w:r><w:t>inserted</w:t></w:r></w:ins>
        <w:del><w:r><w:delText>deleted</w:delText></w:r></w:del>
        <w:r><w:instrText>PAGE</w:instrText></w:r></w:p>
        <w:sdt><w:sdtContent><w:p><w:r><w:t>control</w:t></w:r></w:p></w:sdtContent></w:sdt>
        <w:p><w:r><mc:AlternateContent><mc:Choice><w:txbxContent><w:p><w:r><w:t>box</w:t></w:r></w:p></w:txbxContent>
        </mc:Choice>
        <mc:Fallback><w:t>box again</w:t></mc:Fallback></mc:AlternateContent></w:r></w:p>"""
    xml = (
        '<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main" '
        f'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"><w:body>{body}</w:body></w:document>'
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("word/document.xml", xml)
        archive.writestr(
            "docProps/app.xml",
            '<Properties xmlns="http://schemas.openxmlformats.org/officeDocument/2006/extended-properties">'
            "<Pages>3</Pages></Properties>",
        )
    prefab.put("input", "a.docx", buffer.getvalue())
    result = prefab.call("extract_text")
    assert result["content"] == "kept inserted\ncontrol\n\nbox"
    assert result["data"]["pages"] == 3


def test_word_document_that_unpacks_to_far_too_much(prefab, monkeypatch):
    monkeypatch.setattr(prefab.module("docx"), "LARGEST_PART", 1000)
    prefab.put("input", "a.docx", word(lambda document: document.add_paragraph("x" * 2000)))
    assert prefab.call("extract_text")["error_code"] == "FILE_TOO_LARGE"


# HTML, Markdown, text


def test_html(prefab):
    prefab.put(
        "input",
        "a.html",
        """<!DOCTYPE html><html><head><title>no</title><style>p {}</style></head><body><!-- no -->
        <h1>标题</h1><p>One <b>bold</b>
        paragraph.<br>Second&nbsp;line &amp; more</p><ul><li>a<ul><li>b</li></ul></li><li><p>c</p></li></ul>
        <ol start="3"><li>x<li>y</ol><table><tr><th>A</th><th></th></tr><tr><td><p>1</p></td> <td>2</td></tr></table>
        <pre>  if x:\n    y</pre><script>no()</script></body></html>""",
    )
    prefab.call("extract_text")
    assert text(prefab) == (
        "标题\n\nOne bold paragraph.\nSecond line & more\n\n"
        "- a\n  - b\n- c\n\n3. x\n4. y\n\nA\n1\t2\n\n  if x:\n    y\n"
    )


@pytest.mark.parametrize("declared", ["gb2312", "GBK", "gb18030"])
def test_html_declares_its_encoding(prefab, declared):
    page = (
        f'<html><head><meta http-equiv="Content-Type" content="text/html; charset={declared}"></head><p>鑫垚</p></html>'
    )
    prefab.put("input", "a.htm", page.encode("gb18030"))
    assert prefab.call("extract_text")["content"] == "鑫垚"


def test_markdown(prefab):
    prefab.put(
        "input",
        "会议.md",
        "---\ntitle: no\n---\n# 纪要\n\n**Bold** and `code`,\n[link](http://x) ~~old~~\n\n1. one\n\n2. two\n\n"
        "| a | b |\n|---|---|\n| 1 | 2 |\n\n```py\nx = 1\n\ny\n```\n> quoted",
    )
    prefab.call("extract_text")
    assert text(prefab, "会议.txt") == (
        "纪要\n\nBold and code, link old\n\n1. one\n\n2. two\n\na\tb\n1\t2\n\nx = 1\n\ny\n\nquoted\n"
    )


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "gbk", "utf-16", "utf-16-le", "big5"])
def test_encodings_of_text(prefab, codec):
    words = "資料與文字" if codec == "big5" else "你好，世界。这是测试文本"
    prefab.put("input", "a.txt", (words + "\r\nabc").encode(codec))
    result = prefab.call("extract_text", language="zh-TW" if codec == "big5" else "en")
    assert result["content"] == words + "\nabc"


def test_language_decides_between_legacy_encodings(prefab):
    prefab.put("input", "a.txt", "안녕하세요 세계".encode("cp949"))
    assert prefab.call("extract_text", language="ko")["content"] == "안녕하세요 세계"
    prefab.put("input", "a.txt", "日本語".encode("cp932"))
    assert prefab.call("extract_text", language="ja")["content"] == "日本語"


def test_content_decides_not_the_extension(prefab):
    prefab.put("input", "1.docx", pdf("really a PDF"))
    prefab.put("input", "2.pdf", word(lambda document: document.add_paragraph("really Word")))
    prefab.put("input", "3.txt", "<html><p>really HTML</p></html>")
    prefab.put("input", "4", "text without an extension")
    documents = prefab.call("extract_text")["data"]["documents"]
    assert [document["format"] for document in documents] == ["pdf", "docx", "html", "text"]


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("a.txt", b"", "EMPTY_FILE"),
        ("a.txt", b" \n\t\n", "EMPTY_FILE"),
        ("a.txt", b"\xef\xbb\xbf", "NO_TEXT"),
        ("a.html", b"<html><script>x</script></html>", "NO_TEXT"),
        ("a.html", b"<!-- only -->", "NO_TEXT"),
        ("a.docx", b"PK\x03\x04 torn", "CORRUPT_FILE"),
        ("a.bin", bytes(range(256)), "UNSUPPORTED_FORMAT"),
        ("a.png", b"\x89PNG\r\n\x1a\n....", "UNSUPPORTED_FORMAT"),
        ("a.rtf", b"{\\rtf1 text}", "UNSUPPORTED_FORMAT"),
        ("a.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1....", "UNSUPPORTED_FORMAT"),
        ("a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le"), "ENCRYPTED"),
    ],
)
def test_bad_documents(prefab, name, content, code):
    prefab.put("input", name, content)
    for language in ("en", "zh"):
        result = prefab.call("extract_text", language=language)
        assert (result["success"], result["error_code"]) == (False, code)
        assert result["error"].startswith(f"{name}: ")
    assert prefab.outputs() == {}


def test_zip_that_is_not_word(prefab):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("xl/workbook.xml", "<x/>")
    prefab.put("input", "a.xlsx", buffer.getvalue())
    assert prefab.call("extract_text")["error_code"] == "UNSUPPORTED_FORMAT"


def test_long_content_is_cut_but_the_file_is_not(prefab, monkeypatch):
    monkeypatch.setattr(prefab.main, "LONGEST_CONTENT", 10)
    prefab.put("input", "a.txt", "0123456789abc")
    result = prefab.call("extract_text")
    assert (result["content"], result["data"]["content_truncated"]) == ("0123456789", True)
    assert text(prefab) == "0123456789abc\n"


@pytest.mark.parametrize(
    ("words", "count"),
    [
        ("", 0),
        ("don't stop e-mail 3.14 1,000", 5),
        ("你好，世界！", 4),
        ("Python是一种语言 v2", 7),
        ("ひらがなカタカナ", 8),
        ("안녕하세요 세계", 2),
        ("Привет, мир — naïve", 3),
        ("--- *** ...", 0),
    ],
)
def test_count_words(prefab, words, count):
    assert prefab.module("words").count_words(words) == count


@pytest.mark.parametrize("tag", ["div", "font", "ul><li"])
def test_a_page_that_is_nested_very_deeply(prefab, tag):
    prefab.put("input", "a.html", f"<html><body><p>before</p>{f'<{tag}>' * 3000}deep 深<p>after</p></body></html>")
    assert prefab.call("extract_text")["content"].split() == ["before", "deep", "深", "after"]


def test_a_page_that_says_utf8_and_is_not(prefab):
    page = '<html><head><meta charset="utf-8"></head><body>你好，世界，今天天气很好</body></html>'
    prefab.put("input", "a.html", page.encode("gbk"))
    assert prefab.call("extract_text")["content"] == "你好，世界，今天天气很好"


def test_word_equations(prefab):
    power = "<m:sSup><m:e><m:r><m:t>c</m:t></m:r></m:e><m:sup><m:r><m:t>2</m:t></m:r></m:sup></m:sSup>"
    spaces = (
        'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main" '
        'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'
    )
    xml = f"<w:p {spaces}><m:oMath><m:r><m:t>E=m</m:t></m:r>{power}</m:oMath></w:p>"
    prefab.put("input", "a.docx", word(lambda document: document.element.body.insert(0, parse_xml(xml))))
    assert prefab.call("extract_text")["content"] == "E=mc^2"


def test_what_is_filled_into_a_form(prefab):
    buffer = io.BytesIO()
    canvas = Canvas(buffer)
    canvas.drawString(72, 700, "Name:")
    canvas.acroForm.textfield(name="name", value="Max Mustermann", x=150, y=690, width=200, height=20)
    canvas.save()
    prefab.put("input", "a.pdf", buffer.getvalue())
    assert prefab.call("extract_text")["content"] == "Name:\n\nname: Max Mustermann"
