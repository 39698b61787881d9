"""The tests of the module that decides notice every change of it."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def mutate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutate", ROOT / "scripts/mutate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_mutant_survives(mutate: ModuleType) -> None:
    module, test_file = mutate.DEFAULT
    assert list(mutate.survivors(module, ROOT / test_file)) == []


def test_what_is_not_tested_is_found(mutate: ModuleType, tmp_path: Path) -> None:
    """A run without survivors proves something only if it can have some."""
    module, test_file = mutate.DEFAULT
    source = (ROOT / test_file).read_text()
    assert "def test_reading_files" in source
    weaker = tmp_path / "test_weaker.py"
    weaker.write_text(source.replace("def test_reading_files", "def reading_files"))
    assert any("own_agent" in what for what in mutate.survivors(module, weaker))


def test_every_kind_of_change_is_made(mutate: ModuleType) -> None:
    source = (
        "def f(a: int, b: str = 'x') -> bool:\n"
        "    'Words.'\n"
        "    if not a or b in 'yz':\n"
        "        g(a)\n"
        "        raise ValueError('words')\n"
        "    return Scope.CALL if a > 1 else None\n"
    )
    whats = [mutant.what.partition(": ")[2] for mutant in mutate.mutants(source)]
    assert len(whats) == len(set(whats))
    for wanted in (
        "not a -> a",
        "b in 'yz' -> b not in 'yz'",
        "not a or b in 'yz' -> not a and b in 'yz'",
        "not a or b in 'yz' -> not a",
        "g(a) -> pass",
        "raise ValueError('words') -> pass",
        "a > 1 -> a >= 1",
        "a > 1 -> a <= 1",
        "1 -> 2",
        "Scope.CALL -> Scope.ADMIN",
        "Scope.CALL if a > 1 else None -> Scope.CALL if True else None",
        "return Scope.CALL if a > 1 else None -> return None",
    ):
        assert wanted in whats
    assert not [what for what in whats if "words" in what.lower() and "pass" not in what]
