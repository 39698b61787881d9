import io
import zipfile

import pytest


def test_members(parse, make):
    content = make.zip(
        {
            "报告/一.txt": "你好",
            "b.csv": "a,b\n1,2\n",
            "c.pdf": make.pdf(("Normal", "inside")),
            "d.png": b"\x89PNG\r\n\x1a\n",
            "e.zip": make.zip({"x.txt": "x"}),
            "__MACOSX/._b.csv": b"\0\1",
        }
    )
    result = parse("all.zip", content)
    text = result["content"]
    assert text.startswith("# all.zip\n\n| name | bytes |\n| --- | --- |\n| 报告/一.txt | 6 |\n")
    assert "## 报告/一.txt\n\n你好\n\n" in text
    assert "## b.csv\n\n| a | b |\n| --- | --- |\n| 1 | 2 |" in text
    assert "## c.pdf\n\ninside" in text
    assert "*d.png not converted: this is an image" in text
    metadata = result["metadata"]
    assert (metadata["members"], metadata["converted"]) == (5, 3)
    assert [entry["name"] for entry in metadata["skipped"]] == ["d.png", "e.zip"]
    assert metadata["warnings"] == ["not converted: d.png, e.zip"]


def test_names_in_gbk(parse, make):
    placeholder = "AAAA.txt"
    content = make.zip({placeholder: "x"}).replace(placeholder.encode(), "年报.txt".encode("gbk"))
    assert "| 年报.txt | 1 |" in parse("a.zip", content)["content"]


@pytest.mark.parametrize("name", ["../evil.txt", "/etc/evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:\\evil.txt"])
def test_names_that_lead_out(refused, make, name):
    assert "evil" in refused("UNSAFE_FILE", "a.zip", make.zip({"good.txt": "x", name: "x"}))


def test_links(refused):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    refused("UNSAFE_FILE", "a.zip", buffer.getvalue())


def test_bombs(refused, make):
    assert "more than is safe" in refused("TOO_LARGE", "a.zip", make.zip({"a.txt": bytes(60 << 20)}))


def test_an_encrypted_member(parse, make):
    content = bytearray(make.zip({"a.txt": "x", "b.txt": "y"}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    result = parse("a.zip", bytes(content))
    assert [entry["error_code"] for entry in result["metadata"]["skipped"]] == ["ENCRYPTED_DOCUMENT"]
    assert "## b.txt\n\ny" in result["content"]


def test_empty_and_damaged(refused, make):
    refused("EMPTY_FILE", "a.zip", make.zip({}))
    content = make.zip({"a.txt": "x" * 1000})
    refused("CORRUPT_FILE", "a.zip", content[:-30])


def test_an_archive_that_begins_with_an_unpacked_pdf(parse, make):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a.pdf", make.pdf(("Normal", "inside")))
        archive.writestr("b.txt", "text")
    result = parse("a.zip", buffer.getvalue())
    assert (result["metadata"]["format"], result["metadata"]["converted"]) == ("zip", 2)
