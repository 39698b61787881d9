"""What is kept of a log, without secrets in whatever way they are written."""

import textwrap
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_server.calls.logs import Log, Masker


@pytest.mark.parametrize("at", range(60, 105))
def test_a_cut_never_leaves_a_piece_of_a_secret(at: int):
    log, secret = Log(200), "ABCDEFGHIJKLMNOP"
    log.write(b"-" * at + secret.encode() + b"-" * 600 + secret.encode() + b"-" * (at - 10))
    kept = log.read(Masker([secret])).replace(b"bytes left out", b"")
    assert not any(letter in kept for letter in secret.encode())


KEY = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\n\n  kqhkiG9w0BAQEF\r\n-----END PRIVATE KEY-----"


def test_a_value_of_many_lines_is_masked_where_they_are_indented():
    inner = ExceptionGroup("inner", [ValueError(f"no {KEY} here"), OSError("other")])
    told = "".join(traceback.format_exception(ExceptionGroup("outer", [inner])))
    assert "| MIIEvQ" in told
    masker = Masker([KEY])
    for masked in (masker.text(told), masker.bytes(told.encode()).decode()):
        assert "ValueError: no *** here" in masked
        assert not any(piece in masked for piece in ("MIIEvQ", "kqhkiG", "PRIVATE"))


@pytest.mark.parametrize("at", range(20, 140))
def test_a_cut_leaves_no_piece_of_an_indented_value(at: int):
    log, secret = Log(400), "ABCDEFGH\nIJKLMNOP"
    shown = secret.replace("\n", "\n" + " " * 20 + "| ").encode()
    log.write(b"-" * (at + 60) + shown + b"-" * 900 + shown + b"-" * (at + 60))
    kept = log.read(Masker([secret])).replace(b"bytes left out", b"")
    assert not any(letter in kept for letter in b"ABCDEFGHIJKLMNOP")


@pytest.mark.parametrize(
    "spelling",
    [
        r"b'user:p\xc3\xa4 ss@host'",
        "https://x/user:p%C3%A4%20ss@host/",
        "https://x/user:p%c3%a4%20ss@host/",
        "https://x/?key=user%3ap%c3%a4+ss%40host",
    ],
)
def test_bytes_and_paths_of_urls_are_masked(spelling: str):
    masked = Masker(["user:p\u00e4 ss@host"]).text(spelling)
    assert "***" in masked
    assert "ss" not in masked


@pytest.mark.parametrize("value", ["secret-value\n", "\r\n secret-value \n", KEY + "\n"])
def test_what_programs_strip_from_a_value_need_not_be_there(value: str):
    assert Masker([value]).text(f"[{value.strip()}] [{value.strip().encode()!r}]") == "[***] [b'***']"


@given(
    st.lists(st.text("ab |", max_size=4), min_size=2, max_size=6).map("\n".join),
    st.sampled_from(["\t", "  ", "    ", "        ", "  | ", "    | ", " " * 20 + "| "]),
)
def test_no_usual_margin_hides_a_value(lines: str, margin: str):
    value = f"secret{lines}value"
    shown = textwrap.indent(value, margin, lambda _line: True)
    assert Masker([value]).text(f"{shown}\n{shown}") == f"{margin}***\n{margin}***"


def test_a_value_of_very_many_lines_is_masked_as_it_is():
    value = " \n" * 30_000 + "secret-value"
    assert Masker([value]).text(f"[{value.strip()}]") == "[***]"
    value = "secret\n" * 20_000
    assert Masker([value]).text(f"[{value}]") == "[***\n]"


def test_a_line_of_a_value_is_masked_where_it_stands_alone():
    printed = "".join(f"  {line}\n" for line in KEY.splitlines())
    masked = Masker([KEY]).text(f"key:\n{printed}done | ok\n")
    assert masked == "key:\n  ***\n  ***\n  \n    ***\n  ***\ndone | ok\n"


def test_short_lines_of_a_value_and_lines_of_others_stay():
    text = "ab\nnothing of it: long enough\nab\r\n"
    assert Masker(["ab\nlong enough"]).text(text) == text


def test_a_cut_leaves_no_piece_of_a_line_of_a_value():
    log, secret = Log(200), "ABCDEFGHIJKLMNOP\nsecond line"
    log.write(b"-" * 95 + b"\nABCDEFGHIJKLMNOP\n" + b"-" * 900)
    kept = log.read(Masker([secret])).replace(b"bytes left out", b"")
    assert not any(letter in kept for letter in b"ABCDEFGHIJKLMNOP")
