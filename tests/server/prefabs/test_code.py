from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway_server.prefabs import modules
from gateway_server.prefabs.code import check_code
from gateway_server.prefabs.manifest import PackageError, parse_manifest
from gateway_server.prefabs.problems import Problem

from .conftest import WriteFiles, function, manifest


def check(
    write_files: WriteFiles, code: str | bytes, others: dict[str, str] | None = None, **changes: Any
) -> tuple[Problem, ...]:
    """Checks a package whose manifest declares `greet`, with these files."""
    sources: dict[str, str | bytes] = {"src/main.py": code, **(others or {})}
    root = write_files(sources)
    files: dict[str, Path] = {path: root / path for path in sources}
    return check_code(files, parse_manifest(manifest(functions=[function(**changes)])))


@pytest.mark.parametrize(
    "code",
    [
        "def greet(): ...",
        "async def greet(): ...",
        "class greet: ...",
        "greet = lambda: 1",
        "greet, other = make()",
        "greet: object = make()",
        "if True:\n    def greet(): ...",
        "try:\n    from fast import greet\nexcept ImportError:\n    def greet(): ...",
        "with open('x') as greet: ...",
        "for greet in [1]: ...",
        "if (greet := make()): ...",
        "match make():\n    case [greet, *_]: ...",
        "from somewhere import greet",
        "from somewhere import other as greet",
        "import greet",
        "from somewhere import *",
        "def __getattr__(name): ...",
        "globals()['gr' + 'eet'] = print",
        "import sys\nsetattr(sys.modules[__name__], 'greet', print)",
        "def make():\n    global greet\n    greet = print\nmake()",
        "def other(): ...\ngreet = other",
        "# -*- coding: latin-1 -*-\n# \xe9\ndef greet(): ...".encode("latin-1"),
        "def greet():\n    return '\\d'",  # an invalid escape is the author's concern
    ],
)
def test_ways_to_define_a_function(write_files: WriteFiles, code: str | bytes) -> None:
    assert check(write_files, code) == ()


@pytest.mark.parametrize(
    ("code", "others"),
    [
        ("from .work import greet", {"src/work.py": "def greet(): ..."}),
        ("from src.work import greet", {"src/work.py": "def greet(): ..."}),
        ("from .work import hello as greet", {"src/work.py": "def hello(): ..."}),
        ("from . import greet", {"src/__init__.py": "from .work import greet", "src/work.py": "def greet(): ..."}),
        ("from .deep import *", {"src/deep/__init__.py": "from .a import *", "src/deep/a.py": "def greet(): ..."}),
        ("from .deep.a import greet", {"src/deep/a.py": "from ..b import greet", "src/b.py": "greet = 1"}),
        ("from .deep import greet", {"src/deep/__init__.py": "from elsewhere import *"}),
        ("from .broken import greet", {"src/broken.py": "def ("}),
        ("try:\n    from .gone import greet\nexcept ImportError:\n    greet = None", {}),
    ],
)
def test_functions_in_other_modules_are_found(write_files: WriteFiles, code: str, others: dict[str, str]) -> None:
    assert check(write_files, code, others) == ()


@pytest.mark.parametrize(
    ("code", "others"),
    [
        ("", {}),
        ("def great(): ...", {}),
        ("class Api:\n    def greet(self): ...", {}),
        ("def outer():\n    def greet(): ...", {}),
        ("greet: int", {}),
        ("names = [greet for greet in range(3)]", {}),
        ("from .work import greet", {"src/work.py": "def other(): ..."}),
        ("from .gone import greet", {}),
        ("from .work import *", {"src/work.py": "from .main import *"}),
        ("from .work import greet", {"src/work.py": "from .main import greet"}),
    ],
)
def test_a_function_that_nothing_defines(write_files: WriteFiles, code: str, others: dict[str, str]) -> None:
    with pytest.raises(PackageError) as caught:
        check(write_files, code, others)
    (problem,) = caught.value.problems
    assert problem.pointer == "/functions/0/name"
    assert "'greet'" in problem.message


def test_a_typing_mistake_is_recognised(write_files: WriteFiles) -> None:
    with pytest.raises(PackageError, match="did you mean 'great'"):
        check(write_files, "def great(): ...")


def test_a_module_of_the_package_imported_as_a_stranger(write_files: WriteFiles) -> None:
    work = {"src/work.py": "def greet(): ...", "src/json.py": ""}
    (problem,) = check(write_files, "import json\nfrom work import greet", work)
    assert "from .work import" in problem.message
    both = "try:\n    from .work import greet\nexcept ImportError:\n    from work import greet"
    assert check(write_files, both, work) == ()


def test_only_functions_that_can_be_called_are_looked_for(write_files: WriteFiles) -> None:
    root = write_files({"src/main.py": "def greet(): ..."})
    parsed = parse_manifest(manifest(functions=[function(), function(name="broken", parameters=3)]))
    assert check_code({"src/main.py": root / "src/main.py"}, parsed) == ()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("def greet():\n    x = = 1", r"src/main\.py, line 2"),
        ("x = '\0'", "src/main.py"),
        ("(" * 5000, "src/main.py"),
        ("-" * 200_000 + "1", "src/main.py|nested too deeply"),
        ("if a: pass\n" + "elif b: pass\n" * 20_000, "src/main.py|nested too deeply"),
        (b"# coding: no-such-codec\n", "src/main.py"),
        (b"\xff\xfe", "src/main.py"),
    ],
)
def test_code_that_does_not_parse(write_files: WriteFiles, code: str | bytes, expected: str) -> None:
    with pytest.raises(PackageError, match=expected):
        check(write_files, code)


def test_a_package_without_its_entry_point(write_files: WriteFiles) -> None:
    root = write_files({"src/other.py": ""})
    with pytest.raises(PackageError, match=r"no src/main\.py"):
        check_code({"src/other.py": root / "src/other.py"}, parse_manifest(manifest()))


def test_reading_never_imports(write_files: WriteFiles, tmp_path: Path) -> None:
    check(write_files, f"open({str(tmp_path / 'ran')!r}, 'w')\ndef greet(): ...")
    assert not (tmp_path / "ran").exists()


NAME = {"name": "name", "type": "string"}


@pytest.mark.parametrize(
    ("code", "parameters"),
    [
        ("def greet(name): ...", [NAME]),
        ("def greet(*, name): ...", [NAME]),
        ("def greet(**anything): ...", [NAME]),
        ("def greet(name='x'): ...", [{**NAME, "required": False}]),
        ("@wrapped\ndef greet(other): ...", [NAME]),
        ("greet = make()", [NAME]),
    ],
)
def test_signatures_that_fit(write_files: WriteFiles, code: str, parameters: list[Any]) -> None:
    assert check(write_files, code, parameters=parameters) == ()


@pytest.mark.parametrize(
    ("code", "parameters", "pointer", "words"),
    [
        ("def greet(): ...", [NAME], "/parameters/0", ["'name'"]),
        ("def greet(nmae=1): ...", [NAME], "/parameters/0", ["'name'", "did you mean 'nmae'"]),
        ("def greet(name, /): ...", [NAME], "/parameters/0", ["'name'", "position"]),
        ("def greet(name, other): ...", [NAME], "/parameters", ["'other'"]),
        ("def greet(name, *, other): ...", [NAME], "/parameters", ["'other'"]),
        ("def greet(name): ...", [{**NAME, "required": False}], "/parameters/0/required", ["may be left out"]),
        ("def greet(name='x'): ...", [NAME], "/parameters/0/required", ["has a default"]),
        ("@functools.lru_cache(maxsize=1)\ndef greet(): ...", [NAME], "/parameters/0", ["'name'"]),
        ("from .work import greet", [NAME], "/parameters/0", ["'name'"]),
    ],
)
def test_signatures_that_do_not_fit(
    write_files: WriteFiles, code: str, parameters: list[Any], pointer: str, words: list[str]
) -> None:
    (problem,) = check(write_files, code, {"src/work.py": "def greet(): ..."}, parameters=parameters)
    assert problem.pointer == f"/functions/0{pointer}"
    assert all(word in problem.message for word in words)


def test_modules_that_import_all_of_each_other_are_read_once(write_files: WriteFiles) -> None:
    count = 40  # and there are 2 ** 40 ways through them
    both = "from .a{0} import *\nfrom .b{0} import *\n"
    others = {f"src/{side}{n}.py": both.format(n + 1) for side in "ab" for n in range(count)}
    others |= {f"src/{side}{count}.py": "" for side in "ab"}
    with pytest.raises(PackageError, match="defines no 'greet'"):
        check(write_files, both.format(0), others)


def test_a_function_of_a_compiled_module_is_found(write_files: WriteFiles) -> None:
    assert check(write_files, "from .fast import greet", {"src/fast.cpython-311-x86_64-linux-gnu.so": ""}) == ()
    assert check(write_files, "from .deep.fast import *", {"src/deep/fast.abi3.so": ""}) == ()
    with pytest.raises(PackageError):
        check(write_files, "from .fast import greet", {"src/faster.so": ""})


def test_code_that_takes_long_to_read_is_trusted(write_files: WriteFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules, "MAX_SOURCE", 1000)
    monkeypatch.setattr(modules, "MAX_SOURCES", 2500)
    assert check(write_files, "x = [" + "0," * 500 + "]") == ()
    others = {f"src/a{n}.py": f"from .a{n + 1} import *\n" + "#" * 700 for n in range(9)}
    assert check(write_files, "from .a0 import *", others) == ()
    with pytest.raises(PackageError, match="defines no 'greet'"):
        check(write_files, "from .a0 import *", {"src/a0.py": "from .a1 import *", "src/a1.py": "#" * 1000})
