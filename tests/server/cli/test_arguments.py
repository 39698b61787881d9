"""What stands on the command line, taken apart."""

from pathlib import Path

import click
import pytest

from gateway_server.cli import arguments
from gateway_server.cli.failures import Code, code_of, refused


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("k=v", {"k": "v"}),
        ("k=", {"k": ""}),
        ("k=a=b:=c", {"k": "a=b:=c"}),
        ("k=1", {"k": "1"}),
        ("k:=1", {"k": 1}),
        ('k:={"a": [1, null]}', {"k": {"a": [1, None]}}),
        ("k:=true", {"k": True}),
        ("k=two\nlines", {"k": "two\nlines"}),
        ("名=你好", {"名": "你好"}),
    ],
)
def test_parameters(text: str, expected: dict[str, object]):
    assert arguments.parameters([text]) == expected


@pytest.mark.parametrize(
    "text", ["k", "=v", ":=1", "k:=", "k:=x", "k:=[1", "k:=NaN", "k:=[-Infinity]", "k:=1e400", "k:=" + "9" * 5000]
)
def test_what_is_no_parameter(text: str):
    with pytest.raises(click.BadParameter):
        arguments.parameters([text])


@pytest.mark.parametrize("depth", [950, 2000, 100_000])
def test_json_that_is_nested_too_deep(depth: int):
    with pytest.raises(click.BadParameter, match="nested too deep") as raised:
        arguments.parameters(["k:=" + "[" * depth + "]" * depth])
    assert len(raised.value.message) < 200
    assert arguments.parameters(["k:=" + '{"a":' * 250 + "1" + "}" * 250])


def test_what_is_given_twice():
    with pytest.raises(click.BadParameter, match="s is given twice"):
        arguments.parameters(["s=x", "s:=1"])
    with pytest.raises(click.BadParameter, match="A is given twice"):
        arguments.assignments(["A=1", "B=1", "A=2"], "--env")


def test_files(tmp_path: Path):
    path = tmp_path / "a=b.txt"
    path.touch()
    assert arguments.files([f"in={path}", "in=s3://bucket/key=1"]) == [("in", path), ("in", "s3://bucket/key=1")]
    for wrong in ("in", "in=", "=x", f"in={tmp_path}/none", f"in={tmp_path}"):
        with pytest.raises(click.BadParameter):
            arguments.files([wrong])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("1500ms", 1.5), ("15m", 900), ("1h", 3600), ("2d", 172800), ("0.5", 0.5)],
)
def test_durations(text: str, seconds: float):
    assert arguments.DURATION.convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "x", "-1", "0", "1w", "1 h", "1e9", "h", "367d", "999999999d"])
def test_what_is_no_duration(text: str):
    with pytest.raises(click.BadParameter):
        arguments.DURATION.convert(text, None, None)


def test_versions():
    assert arguments.VERSION.convert("echo@1.0.0", None, None) == ("echo", "1.0.0")
    for wrong in ("echo", "@1", "echo@", "a/b@1", ""):
        with pytest.raises(click.BadParameter):
            arguments.VERSION.convert(wrong, None, None)


def test_assignments():
    assert arguments.assignments(["A=1", "B=x=y", "C="], "--env") == {"A": "1", "B": "x=y", "C": ""}
    for wrong in ("A", "=1"):
        with pytest.raises(click.BadParameter):
            arguments.assignments([wrong], "--env")


def test_codes():
    assert code_of(401) == code_of(403) == code_of(None, "PERMISSION_DENIED") == Code.AUTH == 3
    assert code_of(504) == code_of(200, "DEADLINE_EXCEEDED") == Code.TIMEOUT == 4
    assert code_of(404) == code_of(422) == code_of(None) == Code.FAILED == 1


def test_refusals_tell_every_reason_once():
    errors = [{"pointer": "/a", "message": "is required"}, {"pointer": "/b", "message": "is unknown"}]
    failure = refused(422, {"message": "wrong: /a is required", "errors": errors})
    assert failure.message == "wrong: /a is required\n  /b: is unknown"
    assert "GATEWAY_API_KEY" in refused(401, {"message": "no"}).message
    assert "500" in refused(500, {}).message
