"""OpenDocument, EPUB, RTF and mail."""

from email.message import EmailMessage

import pytest

SPACES = " ".join(
    f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in ("office", "text", "table")
)
SPACES += ' xmlns:draw="urn:oasis:names:tc:opendocument:xmlns:drawing:1.0"'
SPACES += ' xmlns:presentation="urn:oasis:names:tc:opendocument:xmlns:presentation:1.0"'
SPACES += ' xmlns:xlink="http://www.w3.org/1999/xlink"'
ODT = "application/vnd.oasis.opendocument.text"


def opendocument(make, body, mime=ODT):
    xml = f"<office:document-content {SPACES}><office:body>{body}</office:body></office:document-content>"
    manifest = (
        '<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0">'
        f'<manifest:file-entry manifest:full-path="/" manifest:media-type="{mime}"/></manifest:manifest>'
    )
    return make.zip({"mimetype": mime, "content.xml": xml, "META-INF/manifest.xml": manifest})


def test_opendocument_text(parse, make):
    body = """<office:text><text:h text:outline-level="2">标题</text:h>
      <text:p>a<text:s text:c="2"/>b <text:a xlink:href="http://x.y">link</text:a><text:note><text:note-citation>1
      </text:note-citation><text:note-body><text:p>the note</text:p></text:note-body></text:note>.</text:p>
      <text:list><text:list-item><text:p>one</text:p><text:list><text:list-item><text:p>sub</text:p></text:list-item>
      </text:list></text:list-item></text:list>
      <table:table><table:table-row><table:table-cell table:number-columns-repeated="2"><text:p>h</text:p>
      </table:table-cell></table:table-row><table:table-row><table:table-cell><text:p>甲</text:p></table:table-cell>
      </table:table-row></table:table></office:text>"""
    result = parse("a.odt", opendocument(make, body))
    assert result["content"] == (
        "## 标题\n\na  b [link](http://x.y).\n\n> 1 the note\n\n- one\n  - sub\n\n| h | h |\n| --- | --- |\n| 甲 |  |"
    )
    assert result["metadata"]["format"] == "odt"


def test_opendocument_slides(parse, make):
    body = """<office:presentation><draw:page><draw:frame><draw:text-box><text:p>你好</text:p></draw:text-box>
      </draw:frame>
      <presentation:notes><draw:frame><draw:text-box><text:p>slowly</text:p></draw:text-box></draw:frame>
      </presentation:notes></draw:page></office:presentation>"""
    content = opendocument(make, body, "application/vnd.oasis.opendocument.presentation")
    assert parse("a.odp", content)["content"] == "## 1.\n\n你好\n\n> slowly"


def test_opendocument_sheets(parse, make):
    body = """<office:spreadsheet><table:table table:name="表"><table:table-row>
      <table:table-cell office:value-type="string"><text:p>甲</text:p></table:table-cell>
      <table:table-cell office:value-type="float" office:value="2"><text:p>2</text:p></table:table-cell>
      </table:table-row></table:table></office:spreadsheet>"""
    body = "".join(line.strip() for line in body.splitlines())
    content = opendocument(make, body, "application/vnd.oasis.opendocument.spreadsheet")
    result = parse("a.ods", content)
    assert result["content"] == "## 表\n\n| 甲 | 2 |\n| --- | --- |"
    assert result["metadata"]["format"] == "ods"


def test_opendocument_that_is_damaged(refused, make):
    refused("CORRUPT_FILE", "a.odt", make.zip({"mimetype": ODT, "content.xml": "<broken"}))
    refused("CORRUPT_FILE", "a.odt", make.zip({"mimetype": ODT}))


def epub(make, **changed):
    opf = """<package xmlns="http://www.idpf.org/2007/opf"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/">
      <dc:title>红楼梦</dc:title><dc:creator>曹雪芹</dc:creator></metadata><manifest>
      <item id="b" href="text/b.xhtml" media-type="application/xhtml+xml"/>
      <item id="a" href="text/a%20a.xhtml" media-type="application/xhtml+xml"/></manifest>
      <spine><itemref idref="a"/><itemref idref="b"/></spine></package>"""
    container = """<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>
      <rootfile full-path="OEBPS/content.opf"/></rootfiles></container>"""
    page = '<?xml version="1.0" encoding="utf-8"?><html xmlns="http://www.w3.org/1999/xhtml"><body>{}</body></html>'
    members = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": container,
        "OEBPS/content.opf": opf,
        "OEBPS/text/a a.xhtml": page.format("<h1>第一回</h1><p>甄士隐</p>"),
        "OEBPS/text/b.xhtml": page.format("<p>贾雨村</p>"),
    }
    return make.zip({name: content for name, content in (members | changed).items() if content is not None})


def test_books(parse, make):
    result = parse("a.epub", epub(make))
    assert result["content"] == "# 第一回\n\n甄士隐\n\n贾雨村"
    metadata = result["metadata"]
    assert (metadata["title"], metadata["authors"], metadata["chapters"]) == ("红楼梦", ["曹雪芹"], 2)


def test_books_that_are_damaged(parse, refused, make):
    result = parse("a.epub", epub(make, **{"OEBPS/text/b.xhtml": None}))
    assert result["metadata"]["warnings"] == ["1 chapters are missing or damaged"]
    refused("CORRUPT_FILE", "a.epub", epub(make, **{"OEBPS/content.opf": None}))
    refused("CORRUPT_FILE", "a.epub", epub(make, **{"META-INF/container.xml": "<container/>"}))


def test_books_that_are_locked(refused, make):
    locked = '<encryption><EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#aes128-cbc"/></encryption>'
    refused("ENCRYPTED_DOCUMENT", "a.epub", epub(make, **{"META-INF/encryption.xml": locked}))


def test_rtf(parse):
    content = (
        rb"{\rtf1\ansi\ansicpg936\deff0{\fonttbl{\f0\fnil\fcharset134 SimSun;}}{\info{\title Report}}"
        rb"\f0 \'c4\'e3\'ba\'c3 \u19990?\u30028?\par Second {\b bold}.\par"
        rb"\trowd\cellx1000\cellx2000 a\cell b\cell\row\trowd c\cell d\cell\row}"
    )
    result = parse("a.doc", content)
    assert result["content"] == "你好 世界\n\nSecond bold.\n\n| a | b |\n| --- | --- |\n| c | d |"
    assert (result["metadata"]["format"], result["metadata"]["title"]) == ("rtf", "Report")


@pytest.mark.parametrize("html", [True, False])
def test_mail(parse, html):
    message = EmailMessage()
    message["Subject"] = "季度报告"
    message["From"] = "张三 <zhang@example.com>"
    message["To"] = "li@example.com"
    message["Date"] = "Mon, 06 May 2024 10:00:00 +0800"
    if html:
        message.set_content("<p>请看<b>附件</b>。</p>", subtype="html")
    else:
        message.set_content("请看**附件**。", charset="gb2312")
    message.add_attachment(b"12345", maintype="application", subtype="pdf", filename="报告.pdf")
    result = parse("mail", bytes(message))
    assert result["content"] == (
        "# 季度报告\n\n**From:** 张三 <zhang@example.com>  \n**To:** li@example.com  \n"
        "**Date:** Mon, 06 May 2024 10:00:00 +0800  \n\n请看**附件**。\n\n"
        "## 附件\n\n| name | type | bytes |\n| --- | --- | --- |\n| 报告.pdf | application/pdf | 5 |"
    )
    assert result["metadata"]["attachments"] == [{"name": "报告.pdf", "type": "application/pdf", "size": 5}]
