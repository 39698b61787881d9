"""Which bytes a request asks for."""

from __future__ import annotations

import pytest

from gateway_server.api import ranges


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("bytes=0-0", (0, 1)),
        ("bytes=2-5", (2, 6)),
        ("bytes=2-", (2, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-30", (0, 10)),
        ("bytes=5-99999999999", (5, 10)),
        ("bytes=5-2", None),
        ("bytes=-", None),
        ("bytes=0-1,4-5", None),
        ("items=0-1", None),
        ("bytes=a-b", None),
    ],
)
def test_a_single_range_is_understood(header: str | None, expected: tuple[int, int] | None) -> None:
    assert ranges.wanted(header, 10) == expected


@pytest.mark.parametrize(("header", "size"), [("bytes=10-", 10), ("bytes=-0", 10), ("bytes=0-", 0), ("bytes=-5", 0)])
def test_a_range_behind_the_end_is_refused(header: str, size: int) -> None:
    with pytest.raises(ranges.Unsatisfiable):
        ranges.wanted(header, size)


def test_a_range_counts_only_for_the_same_object() -> None:
    date = ranges.http_date(1000.0)
    assert ranges.still_the_same(None, '"a"', 1000.5)
    assert ranges.still_the_same('"a"', '"a"', 1000.5)
    assert not ranges.still_the_same('"b"', '"a"', 1000.5)
    assert not ranges.still_the_same('W/"a"', '"a"', 1000.5)
    assert ranges.still_the_same(date, '"a"', 1000.5)
    assert not ranges.still_the_same(date, '"a"', 2000.0)
    assert not ranges.still_the_same("nonsense", '"a"', 1000.5)
    assert not ranges.still_the_same("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", '"a"', 1000.5)
    assert not ranges.still_the_same("Mon, 01 Jan 2024 00:00:00 +9999999999999", '"a"', 1000.5)


def test_a_known_object_is_not_sent_again() -> None:
    assert ranges.is_known('"x", W/"a"', '"a"')
    assert ranges.is_known("*", '"a"')
    assert not ranges.is_known('"x"', '"a"')
    assert not ranges.is_known(None, '"a"')
