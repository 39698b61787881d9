import codecs
import json

import pytest

CHINESE = "第三季度销售额增长了百分之十二，华东地区的表现最好。\n其中上海和杭州的订单最多。\n" * 3
TRADITIONAL = "這是一份關於銷售的報告，內容包括訂單與客戶。\n" * 6
JAPANESE = "売上は前年より増加しました。カタカナとひらがなもあります。\n" * 6


@pytest.mark.parametrize(
    ("text", "codec", "mark"),
    [
        (CHINESE, "utf-8", b""),
        (CHINESE, "utf-8", codecs.BOM_UTF8),
        (CHINESE, "utf-16-le", codecs.BOM_UTF16_LE),
        (CHINESE, "utf-16-be", codecs.BOM_UTF16_BE),
        (CHINESE, "gbk", b""),
        (CHINESE + "𠮷", "gb18030", b""),
        (TRADITIONAL, "big5", b""),
        (JAPANESE, "shift_jis", b""),
        ("Café à la crème, déjà vu.\n" * 5, "latin-1", b""),
    ],
)
def test_encodings(parse, text, codec, mark):
    assert parse("a.txt", mark + text.encode(codec))["content"] == text.rstrip("\n")


def test_text_is_left_as_it_is(prefab, parse):
    parse("a.md", "---\na: 1\n---\n# Title\n\n- *x* | y\r\n")
    assert prefab.outputs()["a.md"].decode() == "---\na: 1\n---\n# Title\n\n- *x* | y\n"
    result = parse("b.md", "# 标题 #\n\ntext")
    assert (result["metadata"]["format"], result["metadata"]["title"]) == ("markdown", "标题")


def test_long_content_is_cut_and_says_so(prefab, parse):
    text = "".join(f"line {number}\n" for number in range(100_000))
    result = parse("a.txt", text, max_chars=1000)
    note = f"these are the first 996 of {len(text)} characters; the output file a.md has them all"
    assert result["content"].endswith(f"line 122\n\n*[{note}]*")
    assert note in result["message"]
    assert result["metadata"]["truncated"]
    assert prefab.outputs()["a.md"].decode() == text
    assert "全文在输出文件 a.md 中" in parse("a.txt", text, max_chars=1000, language="zh")["message"]


@pytest.mark.parametrize("length", [9, 10, 11])
def test_the_border_of_long_content(parse, length):
    result = parse("a.txt", "x" * length, max_chars=10)
    assert result["metadata"]["truncated"] == (length > 10)


@pytest.mark.parametrize(
    ("name", "text", "codec"),
    [
        ("a.csv", "城市,数量\n北京,1\n上海,2\n", "gbk"),
        ("a.csv", "城市;数量\n北京;1\n上海;2\n", "utf-8-sig"),
        ("a.tsv", "城市\t数量\n北京\t1\n上海\t2\n", "utf-16"),
        ("a.xls", "城市\t数量\n北京\t1\n上海\t2\n", "gbk"),
        ("a", '"城市"|"数量"\n"北京"|1\n"上海"|2\n', "utf-8"),
    ],
)
def test_tables(parse, name, text, codec):
    if name == "a":
        name = "a.csv"
    content = parse(name, text.encode(codec))["content"]
    assert content == "| 城市 | 数量 |\n| --- | --- |\n| 北京 | 1 |\n| 上海 | 2 |"


def test_ragged_and_quoted_tables(parse):
    result = parse("a.csv", 'a,b,c\n1,"x, ""y""\nz",3\n4\n5,6,7,8\n\n')
    assert result["content"].splitlines()[2:] == ['| 1 | x, "y"<br>z | 3 |', "| 4 |  |  |", "| 5 | 6 | 7 | 8 |"]
    assert result["metadata"]["rows"] == 3


def test_a_quotation_mark_that_is_never_closed(refused):
    assert "line" in refused("CORRUPT_FILE", "a.csv", 'a,b\n1,"open\n' + "x" * (5 << 20))


def test_a_quotation_mark_that_swallows_the_rest(parse):
    result = parse("a.csv", 'a,b\n1,"open\n' + "x,y\n" * 2000)
    assert "line 2 takes 2001 lines" in result["message"]


def test_prose_is_no_table(parse):
    text = "Dear all, hello\nI am here, you there\nBest, Ada\n"
    assert parse("letter", text)["content"] == text.strip()


def test_json_records(parse):
    records = [{"名称": "甲", "n": 1, "p": 1.10, "x": None}, {"名称": "乙|", "n": True}]
    table = "| 名称 | n | p | x |\n| --- | --- | --- | --- |\n| 甲 | 1 | 1.10 |  |\n| 乙\\| | true |  |  |"
    source = json.dumps(records).replace("1.1", "1.10")
    assert parse("a", source)["content"] == table
    lines = "\n".join(json.dumps(record).replace("1.1", "1.10") for record in records)
    assert parse("a.jsonl", lines)["content"] == table


def test_other_json(parse):
    result = parse("a.json", '{"甲": {"a": [1, 2]}}')
    assert result["content"] == '```json\n{\n  "甲": {\n    "a": [\n      1,\n      2\n    ]\n  }\n}\n```'
    broken = parse("a.json", '{"a": ```}')
    assert broken["content"] == '````json\n{"a": ```}\n````'
    assert "not valid JSON" in broken["message"]
    deep = parse("a.json", "[" * 200_000)
    assert "nested too deeply" in deep["message"]


def test_xml(parse):
    source = '<?xml version="1.0" encoding="GB2312"?>\n<书><名>红楼梦</名></书>\n'
    assert parse("a.xml", source.encode("gbk"))["content"] == f"```xml\n{source.strip()}\n```"
    laughs = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><x>&b;</x>'
    result = parse("a.xml", laughs)
    assert "&b;" in result["content"]
    assert "not resolved" in result["message"]
    assert "not well-formed" in parse("a.xml", "<?xml version='1.0'?><a><b></a>")["message"]


def test_web_pages(parse):
    page = """<!DOCTYPE html><html><head><meta charset="gb2312"><title>新闻 &amp; 报道</title><style>p{}</style></head>
      <body><h1>标题</h1><p>内容<b>粗</b> <a href="http://x.y/z">链接</a></p><script>alert(1)</script>
      <ul><li>一<ul><li>二</li></ul></li></ul><table><tr><th>a</th></tr><tr><td>b</td></tr></table>
      <img alt="pic" src="data:image/png;base64,AAAA"></body></html>"""
    result = parse("a.txt", page.encode("gbk"))
    for expected in ("# 标题", "内容**粗** [链接](http://x.y/z)", "- 一\n  - 二", "| a |\n| --- |\n| b |", "pic"):
        assert expected in result["content"]
    assert "alert" not in result["content"]
    assert "base64" not in result["content"]
    assert (result["metadata"]["format"], result["metadata"]["title"]) == ("html", "新闻 & 报道")


def test_a_page_that_is_nested_absurdly(parse):
    result = parse("a.html", "<html>" + "<div>" * 200_000 + "deep")
    assert result["content"] == "deep"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.png", b"\x89PNG\r\n\x1a\n" + bytes(50), "OCR"),
        ("a.pdf", b"\xff\xd8\xff\xe0" + bytes(50), "OCR"),
        ("a.mp4", b"\0\0\0\x20ftypisom" + bytes(50), "video"),
        ("a.gz", b"\x1f\x8b\x08" + bytes(50), "ZIP"),
        ("a.exe", b"MZ\x90\x00" + bytes(50), "program"),
        ("a.bin", bytes(range(256)) * 10, "documents that can"),
    ],
)
def test_what_is_no_document(refused, name, content, words):
    assert words in refused("UNSUPPORTED_FORMAT", name, content)


@pytest.mark.parametrize("content", [b"", b" \n\t\r\n"])
def test_empty_files(refused, content):
    refused("EMPTY_FILE", "a.pdf", content)


def test_parameters(prefab, refused):
    assert "max_chars" in refused("INVALID_PARAMETER", "a.txt", "x", max_chars=0)
    assert "password" in refused("INVALID_PARAMETER", "a.txt", "x", password=1)
    assert prefab.call("parse_file")["error_code"] == "NO_INPUT"
    prefab.put("input", "a.txt", "x")
    prefab.put("input", "b.txt", "x")
    assert prefab.call("parse_file")["error_code"] == "TOO_MANY_FILES"


@pytest.mark.parametrize("tag", ["div", "font", "ul><li"])
def test_a_page_that_is_nested_very_deeply(parse, tag):
    content = parse("a.html", f"<html><body><p>before</p>{f'<{tag}>' * 3000}deep 深<p>after</p></body></html>")[
        "content"
    ]
    assert content.split() == ["before", "deep", "深", "after"]
