"""What a call leaves behind in its workspace and in its environment: noticed, or taken back."""

import contextlib
import errno
import json
import math
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_runtime import linux, workspace
from gateway_runtime.protocol import IDLE, FrameBuffer, Idle, Kind
from gateway_runtime.watch import STEP, Watch
from gateway_runtime.worker import _Environment, _Worker
from gateway_runtime.workspace import FOLDERS


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh workspace, which is the current directory."""
    workspace.lay_out(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(params=["hears", "deaf"], autouse=True)
def hears(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the kernel tells of changes; it does not where the user has too many descriptors of that kind."""

    def refuse(_folders: object) -> int:
        raise OSError(errno.EMFILE, "inotify")

    if request.param == "deaf":
        monkeypatch.setattr(linux, "listen", refuse)
    return bool(request.param == "hears")


def age() -> None:
    """Waits until the folders are so old that the watch may remember their times, which nobody can set."""
    changed = max(os.stat(folder).st_ctime_ns for folder in (".", *FOLDERS))
    while time.time_ns() - changed <= STEP:
        time.sleep(0.001)  # between two looks at the clock


def test_a_workspace_is_made_as_fresh_as_every_call_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, laid_out = tmp_path / "made", tmp_path / "laid-out"
    workspace.make(made)
    laid_out.mkdir(mode=0o700)
    workspace.lay_out(laid_out)
    assert tree(made) == tree(laid_out)
    monkeypatch.chdir(made)
    assert not Watch(listens=True).has_changed()
    with pytest.raises(FileExistsError):
        workspace.make(made)


def tree(folder: Path) -> dict[str, int]:
    """What is in a folder, and who may do what with it."""
    return {str(path.relative_to(folder)): path.stat().st_mode for path in (folder, *folder.rglob("*"))}


@pytest.fixture
def watch(here: Path) -> Watch:
    """One that has looked already, and remembers."""
    made = Watch(listens=True)
    age()
    assert not made.has_changed()
    assert made._times is not None
    return made


def _replace_by_file(folder: str) -> None:
    shutil.rmtree(folder)
    Path(folder).write_text("")


def _rename(folder: str) -> None:
    os.rename(folder, "elsewhere")


def _swap(folder: str) -> None:
    """Another folder in its place, with a file in it."""
    Path("fresh").mkdir()
    Path("fresh/file").write_text("x")
    shutil.rmtree(folder)
    os.rename("fresh", folder)


WAYS: list[Callable[[str], None]] = [
    lambda folder: Path(folder, "file").write_text("x") and None,
    lambda folder: Path(folder, "file").touch(),
    lambda folder: Path(folder, ".hidden").mkdir(),
    lambda folder: os.symlink("nowhere", Path(folder, "link")),
    lambda folder: os.mkfifo(Path(folder, "pipe")),
    lambda folder: Path(os.fsdecode(os.path.join(os.fsencode(folder), b"\xff\xfe"))).touch(),
    _swap,
    _replace_by_file,
    _rename,
    shutil.rmtree,
]


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("way", range(len(WAYS)))
@pytest.mark.parametrize("remembers", [True, False])
def test_whatever_is_made_removed_or_renamed_is_noticed(
    here: Path, folder: str, way: int, remembers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(listens=True)
    if remembers:
        age()
    else:  # the folders stay young, however slow the machine is
        monkeypatch.setattr("gateway_runtime.watch.STEP", math.inf)
    assert not watch.has_changed()
    assert (watch._times is not None) == remembers
    WAYS[way](folder)
    assert watch.has_changed()
    assert watch.has_changed()


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_that_became_a_link_is_noticed(
    watch: Watch, folder: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    target = tmp_path_factory.mktemp("elsewhere") / "folder"
    shutil.copytree(folder, target)
    shutil.rmtree(folder)
    os.symlink(target, folder)
    assert watch.has_changed()


@pytest.mark.parametrize("folder", ["data/inputs", "data/outputs", ".home", ".tmp"])
def test_a_folder_that_nobody_can_write_to_is_noticed(watch: Watch, folder: str) -> None:
    os.chmod(folder, 0o500)
    try:
        assert watch.has_changed()
    finally:
        os.chmod(folder, 0o700)


def test_stray_files_beside_the_folders_are_noticed(watch: Watch) -> None:
    Path("stray").write_text("x")
    assert watch.has_changed()
    Path("stray").unlink()
    assert not watch.has_changed()
    Path("data/stray").mkdir()
    assert watch.has_changed()


def test_what_has_been_heard_of_is_not_looked_for(watch: Watch, hears: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    monkeypatch.setattr(Watch, "_looks_changed", lambda _: looks.append(1) or False)
    for _ in range(3):
        assert not watch.has_changed()
    assert len(looks) == (0 if hears else 3)
    Path("data/outputs/file").touch()
    watch.has_changed()
    assert len(looks) == (1 if hears else 4)


def test_a_watch_whose_descriptor_was_closed_looks_and_listens_anew(watch: Watch) -> None:
    if watch._ear is not None:
        os.close(watch._ear)
    Path("data/outputs/file").touch()
    assert watch.has_changed()
    Path("data/outputs/file").unlink()
    assert not watch.has_changed()
    Path(".tmp/file").touch()
    assert watch.has_changed()


def test_who_closes_every_number_twice_does_not_take_the_watchs(watch: Watch) -> None:
    """As a function with such a mistake: what it opens next gets the numbers that it closed."""
    for number in range(3, 200):
        with contextlib.suppress(OSError):
            os.fstat(number)
            continue
        file = os.open("/dev/null", os.O_RDONLY)
        os.close(file)
        break
    with contextlib.suppress(OSError):
        os.close(file)
    kept = [socket.socket() for _ in range(20)]
    Path("data/outputs/file").touch()
    assert watch.has_changed()
    for one in kept:
        one.close()


def test_a_watch_that_may_not_listen_has_no_descriptor(here: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    watch = Watch(listens=False)
    assert not watch.has_changed()
    assert len(os.listdir("/proc/self/fd")) == before
    Path("data/outputs/file").touch()
    assert watch.has_changed()


def test_a_watch_has_no_more_than_one_descriptor(watch: Watch) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for folder in FOLDERS * 5:
        Path(folder, "made").mkdir()
        assert watch.has_changed()
        Path(folder, "made").rmdir()
        assert not watch.has_changed()
    shutil.rmtree(".tmp")
    assert watch.has_changed()
    workspace.lay_out(".")
    assert not watch.has_changed()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_that_came_and_went_is_no_change(watch: Watch) -> None:
    Path("data/outputs/file").write_text("x")
    Path("data/outputs/file").unlink()
    assert not watch.has_changed()


def test_what_is_made_within_the_step_of_the_clock_in_which_it_looked_is_noticed(here: Path) -> None:
    for number in range(200):
        watch = Watch(listens=True)
        assert not watch.has_changed()  # the folders may be as young as this moment
        file = Path(FOLDERS[1 + number % 4], "file")
        file.touch()
        assert watch.has_changed(), number
        file.unlink()


def test_a_change_that_leaves_the_time_as_it_was_young_is_noticed(here: Path) -> None:
    """As where the clock of the file system stood still: the time of modification says nothing."""
    watch = Watch(listens=True)
    assert not watch.has_changed()
    before = {folder: os.stat(folder).st_mtime_ns for folder in (".", *FOLDERS)}
    Path("data/outputs/file").touch()
    for folder, moment in before.items():
        os.utime(folder, ns=(moment, moment))
    assert watch.has_changed()


def test_folders_from_the_future_are_looked_into_every_time(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1)
    watch = Watch(listens=True)
    assert not watch.has_changed()
    assert watch._times is None
    before = os.stat("data/outputs").st_mtime_ns
    Path("data/outputs/file").touch()
    os.utime("data/outputs", ns=(before, before))
    assert watch.has_changed()


def test_inputs_that_the_gateway_lays_in_are_noticed_until_they_are_gone(watch: Watch) -> None:
    Path("data/inputs/key").mkdir()
    Path("data/inputs/key/file.txt").write_text("x")
    assert watch.has_changed()
    shutil.rmtree("data/inputs/key")
    assert not watch.has_changed()


def test_a_workspace_made_anew_by_the_gateway_is_fresh(watch: Watch, here: Path) -> None:
    for name in (".home", "data"):
        Path(name, "left").touch()
        assert watch.has_changed()
        shutil.rmtree(name)
        workspace.lay_out(here)
        assert not watch.has_changed()
    Path("data/outputs/left").touch()
    assert watch.has_changed()


names = st.sampled_from(["data/outputs/a", "data/outputs/b", "data/inputs/k", ".home/h", ".tmp/t", "stray", "data/x"])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["make", "remove", "look", "age", "move"]), names, names), max_size=25))
def test_it_never_takes_for_fresh_what_is_not(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, str]]
) -> None:
    before, folder = Path.cwd(), tmp_path_factory.mktemp("watched")
    workspace.lay_out(folder)
    os.chdir(folder)
    try:
        watch, there = Watch(listens=True), set()
        for step, name, other in steps:
            if step == "make":
                Path(name).touch()
                there.add(name)
            elif step == "remove" and name in there:
                Path(name).unlink()
                there.discard(name)
            elif step == "move" and name in there:
                Path(name).rename(other)
                there = there - {name} | {other}
            elif step == "age" and watch._times is None:  # else a time that was seen would come again
                age()
            assert watch.has_changed() == bool(there)
    finally:
        os.chdir(before)
        shutil.rmtree(folder)


# The environment


@pytest.fixture
def kept() -> Iterator[None]:
    """Two variables, and everything as it was afterwards, whatever a test finds."""
    before = dict(os.environb)
    os.environ.update({"KEPT": "as it was", "EMPTY": ""})
    yield
    for name in set(os.environb) - set(before):
        del os.environb[name]
    os.environb.update(before)


def _everything() -> None:
    os.environ.clear()


def _names() -> None:
    for name in list(os.environ):
        if name != "PATH":
            del os.environ[name]


def _values() -> None:
    for name in list(os.environ):
        os.environ[name] = "changed"


def _bytes() -> None:
    os.environb[b"\xff\xfe"] = b"\x80"
    os.environb[b"KEPT"] = b"\xff"
    os.environ["ÜMLÄUT"] = "ü"


def _secret() -> None:
    os.environ["SECRET"] = "changed"
    os.environ["OTHER"] = os.environ.pop("KEPT")


def _unset_below() -> None:
    os.environ.pop("SECRET")
    os.environ.update({"EMPTY": "no more", "NEW": ""})


CHANGES = [_everything, _names, _values, _bytes, _secret, _unset_below]


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("change", CHANGES)
def test_the_environment_is_as_it_was_after_a_call(change: Callable[[], None]) -> None:
    before, inherited = dict(os.environb), _inherited()
    environment = _Environment({"SECRET": "words of ann", "KEPT": "by the call"})
    assert os.environ["SECRET"] == "words of ann"
    assert os.environ["KEPT"] == "by the call"
    change()
    environment.restore()
    assert dict(os.environb) == before
    assert dict(os.environ) == {os.fsdecode(name): os.fsdecode(value) for name, value in before.items()}
    assert _inherited() == inherited


def _inherited() -> bytes:
    """What a process finds that this one starts."""
    command = [sys.executable, "-c", "import os; print(sorted(os.environb.items()))"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, env=None).stdout


@given(
    st.lists(
        st.tuples(
            st.binary(min_size=1, max_size=4).filter(lambda name: b"=" not in name and b"\0" not in name),
            st.none() | st.binary(max_size=4).filter(lambda value: b"\0" not in value),
        )
    )
)
def test_whatever_a_function_sets_or_deletes_is_taken_back(changes: list[tuple[bytes, bytes | None]]) -> None:
    before = dict(os.environb)
    environment = _Environment({"SECRET": "words of ann"})
    for name, value in changes:
        if value is not None:
            os.environb[name] = value
        else:
            os.environb.pop(name, None)
    environment.restore()
    assert dict(os.environb) == before
    assert os.getenv("SECRET") is None


# Both, as a worker goes through its calls


class Calls:
    """A worker within this process, and the engine's end of its socket."""

    def __init__(self, functions: ModuleType) -> None:
        self._engine, there = socket.socketpair()
        self._engine.settimeout(5)
        self._there = there
        self._worker = _Worker(there, lambda: functions)
        self._buffer = FrameBuffer()
        self._number = 0

    def __enter__(self) -> "Calls":
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.close()
        self._there.close()

    def call(self, function: str, **environment: str) -> tuple[object, int]:
        """What the function returned, and what the worker says of itself."""
        self._number += 1
        order = {"function": function, "parameters": {}, "environment": environment, "stream": False, "fold": False}
        self._worker.run(self._number, order)
        frames: dict[Kind, bytes] = {}
        while Kind.IDLE not in frames:
            frames |= {kind: payload for kind, _, payload in self._buffer.feed(self._engine.recv(1 << 16))}
        flags, _ = IDLE.unpack(frames.pop(Kind.IDLE))
        ((kind, payload),) = frames.items()
        assert kind in (Kind.RESULT, Kind.FAILURE)
        return json.loads(payload), flags


@pytest.fixture
def calls(here: Path, kept: None) -> Iterator[Calls]:
    functions = ModuleType("functions")
    exec(FUNCTIONS, functions.__dict__)
    with Calls(functions) as made:
        yield made


FUNCTIONS = """
import os

def tells():
    return os.environ.get("SECRET")

def writes():
    open("data/outputs/file", "w").close()

def goes_away():
    os.chdir("/")

def empties():
    os.environ.clear()

def rebinds():
    os.environ = dict(os.environ)
    return os.environ.get("SECRET")

def raises():
    os.environ["SECRET_COPY"] = os.environ["SECRET"]
    raise ValueError("no")

def exits():
    os.environ["SECRET"] = "other"
    raise SystemExit(3)
"""


def test_a_secret_is_gone_before_the_next_call(calls: Calls) -> None:
    before = dict(os.environb)
    for function in ("tells", "raises", "exits", "empties", "goes_away"):
        calls.call(function, SECRET="words of ann")
        assert calls.call("tells")[0] is None
        assert dict(os.environb) == before


def test_a_secret_is_gone_where_a_function_put_something_in_the_place_of_the_environment(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", os.environ)
    calls.call("rebinds", SECRET="words of ann")
    assert calls.call("tells", SECRET="words of bob")[0] == "words of bob"
    assert calls.call("tells")[0] is None


def test_a_worker_says_whether_there_are_files(calls: Calls, here: Path) -> None:
    files = Idle.FILES.value
    assert not calls.call("tells")[1] & files
    assert calls.call("writes")[1] & files
    assert calls.call("tells")[1] & files, "nobody has taken them away"
    (here / "data/outputs/file").unlink()
    assert not calls.call("tells")[1] & files
    assert not calls.call("goes_away")[1] & files
    assert Path.cwd() == here
