"""Names of files."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_server.files.names import LONGEST, Names, safe_name

ANY_TEXT = st.text(st.characters(codec=None, categories=None), max_size=400)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("报告 最终.pdf", "报告 最终.pdf"),
        ("naïve 👩‍🔬.txt", "naïve 👩‍🔬.txt"),
        ("../../etc/passwd", "passwd"),
        (r"C:\fakepath\a.doc", "a.doc"),
        ("..", "file"),
        ("", "file"),
        ("a/", "a"),
        (" . ", "file"),
        ("a\x00b\nc.txt", "a_b_c.txt"),
        ("invoice\u202egpj.exe", "invoice_gpj.exe"),
        ("nul", "_nul"),
        ("CON.txt", "_CON.txt"),
        ("console.txt", "console.txt"),
        (".bashrc", ".bashrc"),
        ("a\udcffb", "a_b"),
    ],
)
def test_a_name_is_made_safe_and_kept_as_far_as_it_is(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_a_long_name_keeps_its_extension() -> None:
    assert safe_name("名" * 300 + ".tar.gz").endswith("名.gz")
    assert len(safe_name("名" * 300 + ".tar.gz").encode()) <= LONGEST
    assert len(safe_name("a." + "x" * 500).encode()) == LONGEST


@given(ANY_TEXT)
def test_every_name_is_safe_to_use(name: str) -> None:
    safe = safe_name(name)
    assert safe
    assert safe not in (".", "..")
    assert not set(safe) & set("/\\\0")
    assert len(safe.encode("utf-8")) <= LONGEST
    assert all(unicodedata.category(character) not in ("Cc", "Cs") for character in safe)
    assert safe_name(safe) == safe


@given(st.lists(st.sampled_from(["a.txt", "a (2).txt", "b", "a" * LONGEST, "名" * 76 + ".x"]), max_size=12))
def test_equal_names_are_told_apart(names: list[str]) -> None:
    found = Names()
    taken = [found.take(name) for name in names]
    assert len(set(taken)) == len(taken)
    assert all(len(name.encode()) <= LONGEST for name in taken)


def test_the_second_of_a_name_is_numbered_before_its_extension() -> None:
    names = Names()
    given = [names.take(name) for name in ("a.txt", "a.txt", "a.txt", "a", "a", "a (2)")]
    assert given == ["a.txt", "a (2).txt", "a (3).txt", "a", "a (2)", "a (2) (2)"]


def test_ten_thousand_that_look_alike_cost_no_more_than_others() -> None:
    """The work, counted by what is looked at, grows with their number and not with its square."""
    names, looks = Names(), Looks()
    names._taken = looks
    assert names.take("a.txt") == "a.txt"
    assert [names.take("a.txt") for _ in range(10_000)][-1] == "a (10001).txt"
    assert looks.count < 30_000


class Looks(set[str]):
    count = 0

    def __contains__(self, name: object) -> bool:
        self.count += 1
        return super().__contains__(name)
