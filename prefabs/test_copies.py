"""Prefabs stand alone, so what two of them need is there twice; the copies stay the same."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize("name", ["encoding.py", "equations.py", "problem.py", "shallow.py"])
def test_copies_are_the_same(name):
    copies = {path.read_text("utf-8") for path in HERE.glob(f"*/src/{name}")}
    assert len(copies) == 1
