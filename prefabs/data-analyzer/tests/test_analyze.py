import json
from datetime import date, datetime, timedelta
from decimal import Decimal

import polars as pl
import pytest

SALES = (
    "日期,城市,amount,units,paid\n2024-01-05,北京,120.5,3,true\n2024-01-06,上海,80,2,false\n2024-02-01,北京,,1,true\n"
)


def only(result):
    assert result["success"], result
    (file,) = result["data"]["files"]
    return file


def columns(result):
    return {column["name"]: column for column in only(result)["columns"]}


def test_csv_with_every_type(prefab):
    prefab.put("input", "销售.csv", SALES)
    result = prefab.call("analyze")
    file, found = only(result), columns(result)
    assert (file["name"], file["format"], file["encoding"], file["rows"]) == ("销售.csv", "csv", "utf-8", 3)
    assert {name: c["type"] for name, c in found.items()} == {
        "日期": "date", "城市": "string", "amount": "number", "units": "integer", "paid": "boolean",
    }  # fmt: skip
    assert found["日期"] == {
        "name": "日期", "type": "date", "count": 3, "null_count": 0, "unique": 3, "min": "2024-01-05",
        "max": "2024-02-01",
    }  # fmt: skip
    amount = found["amount"]
    assert (amount["null_count"], amount["min"], amount["max"], amount["mean"]) == (1, 80.0, 120.5, 100.25)
    assert (found["units"]["sum"], found["units"]["median"], found["units"]["std"]) == (6, 2.0, 1.0)
    assert (found["paid"]["true_count"], found["paid"]["false_count"]) == (2, 1)
    assert found["城市"]["top"] == [{"value": "北京", "count": 2}, {"value": "上海", "count": 1}]
    assert file["sample"][0] == {"日期": "2024-01-05", "城市": "北京", "amount": 120.5, "units": 3, "paid": True}
    assert result["data"]["total_rows"] == 3
    assert "| amount | number | 1 (33%) | 2 | min 80.00" in result["content"]


def test_chinese_report(prefab):
    prefab.put("input", "a.csv", SALES)
    result = prefab.call("analyze", language="zh")
    assert result["message"] == "已分析 1 个文件，共 3 行"
    assert "| 城市 | 文本 | 0 | 2 |" in result["content"]


def test_cells_of_the_report(prefab):
    prefab.put("input", "a|b.json", json.dumps([{"x": ["a", "长"], "y": True, "z": "p|q\nr", "n": None}]))
    content = prefab.call("analyze")["content"]
    assert "## a\\|b.json" in content
    assert '| ["a", "长"] | true | p\\|q r |  |' in content


def test_columns_and_sample_rows(prefab):
    prefab.put("input", "a.csv", SALES)
    result = prefab.call("analyze", columns=["units", "城市"], sample_rows=1)
    assert list(columns(result)) == ["units", "城市"]
    assert only(result)["sample"] == [{"units": 3, "城市": "北京"}]
    assert only(prefab.call("analyze", sample_rows=0))["sample"] == []


@pytest.mark.parametrize("codec", ["utf-8-sig", "gbk", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_encodings(prefab, codec):
    prefab.put("input", "a.csv", SALES.encode(codec))
    found = columns(prefab.call("analyze"))
    assert list(found) == ["日期", "城市", "amount", "units", "paid"]
    assert found["城市"]["top"][0] == {"value": "北京", "count": 2}


def test_gbk_that_begins_after_much_ascii(prefab):
    prefab.put("input", "a.csv", b"name,n\n" + b"plain,1\n" * 20_000 + "中文内容也要读对,2\n".encode("gbk"))
    result = prefab.call("analyze")
    assert only(result)["encoding"] == "gb18030"
    assert columns(result)["name"]["top"][1]["value"] == "中文内容也要读对"


@pytest.mark.parametrize(
    ("text", "codec", "language"),
    [
        ("naam,café\nRené,1\n", "cp1252", "en"),
        ("名前,値\nさくらの花がさく,1\n", "cp932", "ja"),
        ("имя,значение\nАлександр Пушкин и другие поэты,1\n", "cp1251", "en"),
        ("имя,город\nИван Петров,Москва\nМария Иванова,Казань\n", "cp866", "en"),
        ("이름,도시\n김철수,서울\n이영희,부산\n", "cp949", "en"),
        ("名前,住所\n山田,東京都\n", "iso2022_jp", "en"),
        ("الاسم,المدينة\nأحمد,القاهرة\nفاطمة,الرياض\n", "cp1256", "en"),
        ("שם,עיר\nדוד כהן,ירושלים\nשרה לוי,חיפה\n", "cp1255", "en"),
        ("ชื่อ,เมือง\nสมชาย,กรุงเทพ\n", "cp874", "en"),
    ],
)
def test_other_legacy_encodings(prefab, text, codec, language):
    prefab.put("input", "a.csv", text.encode(codec))
    assert list(columns(prefab.call("analyze", language=language))) == text.split("\n")[0].split(",")


def test_utf8_that_was_cut_off_or_has_a_wrong_byte(prefab):
    text = "城市,天气\n" + "北京,晴朗\n" * 5
    prefab.put("input", "a.csv", text.encode()[:-2])
    prefab.put("input", "b.csv", text.encode() + b"\xff,1\n")
    for file in prefab.call("analyze")["data"]["files"]:
        assert (file["encoding"], file["columns"][0]["name"]) == ("utf-8", "城市")


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_delimiters_and_line_ends(prefab, delimiter, line_end):
    rows = [["id", "text"], ["1", f'"a{delimiter} b"'], ["2", "c"]]
    prefab.put("input", "a.csv", line_end.join(delimiter.join(row) for row in rows))
    result = prefab.call("analyze")
    assert only(result)["rows"] == 2
    assert only(result)["sample"][0] == {"id": 1, "text": f"a{delimiter} b"}


def test_untidy_csv(prefab):
    prefab.put(
        "input", "a.csv", '\n\n,id,id,"two\nlines",^x.*$\n007, 1 ,"1,234.5",x,\n\n008,NA,2,"long\ntext",z,extra\n009\n'
    )
    result = prefab.call("analyze")
    found = columns(result)
    assert list(found) == ["column_1", "id", "id (2)", "two lines", "^x.*$"]
    assert only(result)["rows"] == 3
    assert found["column_1"]["type"] == "string"  # leading zeros: a code
    assert (found["id"]["type"], found["id"]["null_count"]) == ("integer", 2)
    assert (found["id (2)"]["max"], found["id (2)"]["type"]) == (1234.5, "number")
    assert only(result)["sample"][1]["two lines"] == "long\ntext"


@pytest.mark.parametrize(
    ("content", "names", "rows"),
    [
        ("a,b,c\n1,2\n3,4,5,6\n\n7,8,9\n", ["a", "b", "c"], 3),
        ("a,b,c\n1,2,3,4\n5\n", ["a", "b", "c"], 2),
        ('a,b\n"x,1\n2,3\n', ["a", "b"], 2),
        ("Report 2024\n\nname,v\na,1\nb,2\n", ["Report 2024", "column_2"], 3),
    ],
)
def test_a_first_row_that_is_shorter_or_longer_than_the_header(prefab, content, names, rows):
    prefab.put("input", "a.csv", content)
    result = prefab.call("analyze")
    assert (list(columns(result)), only(result)["rows"]) == (names, rows)


def test_type_that_only_a_late_row_refutes(prefab):
    prefab.put("input", "a.csv", "n\n" + "".join(f"{i}\n" for i in range(3000)) + "2.5\n")
    assert columns(prefab.call("analyze"))["n"]["type"] == "number"
    prefab.put("input", "a.csv", "n\n" + "".join(f"{i}\n" for i in range(3000)) + "many\n")
    assert columns(prefab.call("analyze"))["n"]["type"] == "string"


@pytest.mark.parametrize(
    ("values", "kind", "least"),
    [
        (["2024年3月5日", "2024年12月1日"], "date", "2024-03-05"),
        (["2024/3/5", "2024/12/1"], "date", "2024-03-05"),
        (["03/25/2024", "01/02/2024"], "date", "2024-01-02"),
        (["03/04/2024", "01/02/2024"], "string", None),
        (["2024-03-05 10:00:00", "2024-03-05 09:30:00.5"], "datetime", "2024-03-05T09:30:00.500000"),
        (["2024-03-05T10:00:00Z", "2024-03-05T10:00:00+08:00"], "datetime", "2024-03-05T02:00:00+00:00"),
        (["是", "否"], "boolean", None),
        (["13800138000", "9223372036854775807"], "integer", 13800138000),
        (["1e3", "-2.5"], "number", -2.5),
        (["12345678901234567890", "12345678901234567891"], "string", None),
    ],
)
def test_types_of_text(prefab, values, kind, least):
    prefab.put("input", "a.csv", "x,y\n" + "".join(f"{value},1\n" for value in values))
    found = columns(prefab.call("analyze"))["x"]
    assert (found["type"], found.get("min")) == (kind, least)


def test_spread_of_long_numbers(prefab):
    prefab.put("input", "a.csv", "x,y\n6222020200112233445,1\n6222020200112233447,1\n")
    assert columns(prefab.call("analyze"))["x"]["std"] == pytest.approx(2**0.5)


def test_no_header(prefab):
    prefab.put("input", "a.csv", "1,2\n3,4\n")
    result = prefab.call("analyze")
    assert (only(result)["rows"], list(columns(result))) == (2, ["column_1", "column_2"])
    assert only(result)["warnings"] == ["no header: the first row is data"]


def test_header_only_and_unbalanced_quote(prefab):
    prefab.put("input", "a.csv", "a,b\n")
    prefab.put("input", "b.csv", 'a,b\n1,"x\n2,y\n')
    result = prefab.call("analyze")
    header_only, quote = result["data"]["files"]
    assert (header_only["rows"], header_only["sample"], header_only["columns"][0]["type"]) == (0, [], "empty")
    assert (quote["rows"], quote["warnings"]) == (2, ["unbalanced quotes were read as text"])


# JSON: whatever a program may have dumped


@pytest.mark.parametrize(
    ("value", "rows", "types"),
    [
        ([{"a": 1, "b": {"c": "x", "d": [1, 2]}}, {"a": 2.5, "e": None}], 2,
         {"a": "number", "b.c": "string", "b.d": "list", "e": "empty"}),
        ({"name": "报告", "score": 3, "tags": ["a", "b"]}, 1, {"name": "string", "score": "integer", "tags": "list"}),
        ({"total": 2, "items": [{"x": 1}, {"x": 2}]}, 2, {"x": "integer"}),
        ({"u1": {"age": 3}, "u2": {"age": 4, "vip": True}}, 2, {"key": "string", "age": "integer", "vip": "boolean"}),
        ({"x": [1, 2, 3], "y": ["a", "b", "c"]}, 3, {"x": "integer", "y": "string"}),
        ([1, 2, 3], 3, {"value": "integer"}),
        (["a", None, "a"], 3, {"value": "string"}),
        ([[1, "a"], [2, "b"]], 2, {"column_1": "integer", "column_2": "string"}),
        ([1, "two", {"three": 3}, [4]], 4, {"value": "mixed", "three": "integer", "column_1": "integer"}),
        ("just text", 1, {"value": "string"}),
        (42, 1, {"value": "integer"}),
        (None, 1, {"value": "empty"}),
        ([], 0, {}),
        ({}, 0, {}),
        ([{}, {}], 2, {}),
        ([float("nan"), 1.5, float("inf"), 10**400], 4, {"value": "number"}),
        ([2**80, 1], 2, {"value": "number"}),
        ([{"when": "2024-01-02"}, {"when": "2024-03-04"}], 2, {"when": "date"}),
        (["1", "2"], 2, {"value": "string"}),  # JSON says itself what is a number
        (["\ud800 alone"], 1, {"value": "string"}),
    ],
)  # fmt: skip
def test_json_of_any_shape(prefab, value, rows, types):
    prefab.put("input", "temp_result.json", json.dumps(value))
    result = prefab.call("analyze")
    assert only(result)["rows"] == rows
    assert {name: column["type"] for name, column in columns(result).items()} == types


def test_json_statistics_and_wrapped_rows(prefab):
    rows = [{"x": i, "kind": "ab"[i % 2]} for i in range(10)]
    prefab.put("input", "a.json", json.dumps({"source": "test", "rows": rows}, indent=2))
    result = prefab.call("analyze", sample_rows=2)
    file, found = only(result), columns(result)
    assert (file["rows_from"], file["attributes"]) == ("rows", {"source": "test"})
    assert (found["x"]["mean"], found["x"]["sum"], found["x"]["unique"]) == (4.5, 45, 10)
    assert found["kind"]["top"] == [{"value": "a", "count": 5}, {"value": "b", "count": 5}]
    assert file["sample"] == rows[:2]


@pytest.mark.parametrize("separator", ["\n", "\r\n", "\n\n", " "])
def test_json_lines(prefab, separator):
    prefab.put("input", "a.jsonl", separator.join(json.dumps({"n": n, "s": "行"}) for n in range(3)) + separator)
    assert only(prefab.call("analyze"))["rows"] == 3
    prefab.put("input", "a.jsonl", "[1, 2]\n[3, 4]\n")
    assert list(columns(prefab.call("analyze"))) == ["column_1", "column_2"]


def test_json_longer_than_a_batch_and_a_chunk(prefab):
    rows = [{"n": n, "text": "长" * 20, "late": n if n < 40_000 else str(n)} for n in range(45_000)]
    prefab.put("input", "a.json", json.dumps(rows, ensure_ascii=False))
    result = prefab.call("analyze")
    found = columns(result)
    assert only(result)["rows"] == 45_000
    assert (found["n"]["type"], found["n"]["max"], found["n"]["unique"]) == ("integer", 44_999, 45_000)
    assert (found["late"]["type"], found["text"]["unique"]) == ("mixed", 1)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_json_values_across_chunks(prefab, monkeypatch, size):
    values = prefab.module("json_values")
    monkeypatch.setattr(values, "CHUNK", size)
    value = [12345, {"a": [1.5e10, 'x\\"y', None, True]}, "文字", -7, []]
    prefab.put("input", "a.json", json.dumps(value, indent=1))
    with (prefab.workspace / "data/inputs/input/a.json").open(encoding="utf-8") as file:
        assert list(values.Reader(file).values()) == value


def test_parquet(prefab):
    path = prefab.put("input", "a.parquet", b"")
    pl.DataFrame({
        "^d.*$": [date(2024, 1, 1), None],
        "at": [datetime(2024, 1, 1, 12), datetime(2024, 1, 2)],
        "took": [timedelta(seconds=90), timedelta(seconds=30)],
        "price": [Decimal("1.10"), Decimal("2.30")],
        "who": [{"name": "王", "tags": ["a"]}, {"name": "李", "tags": []}],
        "raw": [b"\x00\x01", None],
        "f": [float("nan"), 2.0],
        "big": pl.Series([2**64 - 1, 1], dtype=pl.UInt64),
    }).write_parquet(path)  # fmt: skip
    result = prefab.call("analyze")
    found = columns(result)
    assert {name: c["type"] for name, c in found.items()} == {
        "^d.*$": "date", "at": "datetime", "took": "duration", "price": "number", "who.name": "string",
        "who.tags": "list", "raw": "binary", "f": "number", "big": "integer",
    }  # fmt: skip
    assert (found["^d.*$"]["null_count"], found["price"]["max"], found["took"]["max"]) == (1, 2.3, 90.0)
    assert (found["f"]["null_count"], found["at"]["max"]) == (1, "2024-01-02T00:00:00")
    assert only(result)["sample"][0]["who.tags"] == ["a"]


def test_content_decides_not_the_extension(prefab):
    prefab.put("input", "1.csv", '[{"a": 1}]')
    prefab.put("input", "2.json", "a,b\n1,2\n")
    pl.DataFrame({"a": [1]}).write_parquet(prefab.put("input", "3.txt", b""))
    prefab.put("input", "4", "a\tb\n1\t2\n")
    files = prefab.call("analyze")["data"]["files"]
    assert [file["format"] for file in files] == ["json", "csv", "parquet", "tsv"]


def test_many_distinct_values_are_estimated(prefab, monkeypatch):
    monkeypatch.setattr(prefab.module("analysis"), "EXACT_UNIQUE", 100)
    prefab.put("input", "a.csv", "n\n" + "".join(f"{n}\n" for n in range(1000)))
    found = columns(prefab.call("analyze"))["n"]
    assert found["unique_is_estimate"]
    assert 800 < found["unique"] <= 1000


# Mistakes


@pytest.mark.parametrize(
    ("name", "content", "code", "says"),
    [
        ("a.csv", b"", "EMPTY_FILE", "empty"),
        ("a.json", b"\xef\xbb\xbf \n", "EMPTY_FILE", "empty"),
        ("a.json", b'{"a": 1', "INVALID_JSON", "line 1"),
        ("a.json", b'[1, 2\n3]', "INVALID_JSON", "line 2"),
        ("a.json", b"[1, 2", "INVALID_JSON", "does not end"),
        ("a.json", b"hello", "INVALID_JSON", "line 1"),
        ("a.json", b"[" * 100_000, "INVALID_JSON", "nested too deeply"),
        ("a.xlsx", b"PK\x03\x04....", "UNSUPPORTED_FORMAT", "CSV"),
        ("a.csv", b"<!DOCTYPE html><html>", "UNSUPPORTED_FORMAT", "web page"),
        ("a.csv", bytes(range(256)) * 9, "UNSUPPORTED_FORMAT", "binary"),
        ("a.parquet", b"PAR1 and then nothing of use PAR1", "CORRUPT_FILE", "cannot be read"),
    ],
)  # fmt: skip
def test_bad_files(prefab, name, content, code, says):
    prefab.put("input", name, content)
    result = prefab.call("analyze")
    assert (result["success"], result["error_code"]) == (False, code)
    assert name in result["error"]
    assert says in result["error"]


def test_one_bad_file_does_not_hide_the_others(prefab):
    prefab.put("input", "a.csv", SALES)
    prefab.put("input", "坏.json", "{")
    result = prefab.call("analyze", language="zh")
    assert only(result)["name"] == "a.csv"
    assert result["data"]["failed"][0]["name"] == "坏.json"
    assert result["message"] == "已分析 1 个文件，共 3 行；1 个文件失败：坏.json"
    assert "## 未能分析" in result["content"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"columns": "a"}, "INVALID_PARAMETER"),
        ({"sample_rows": -1}, "INVALID_PARAMETER"),
        ({"sample_rows": True}, "INVALID_PARAMETER"),
        ({"columns": ["nope"]}, "UNKNOWN_COLUMN"),
    ],
)
def test_bad_arguments(prefab, arguments, code):
    prefab.put("input", "a.csv", SALES)
    assert prefab.call("analyze", **arguments)["error_code"] == code


def test_no_input(prefab):
    assert prefab.call("analyze")["error_code"] == "NO_INPUT"
