"""What goes into the workspace of a call and comes out of it, against packages that mean no good."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway_runtime.workspace import lay_out
from gateway_server.errors import FileNotFound, RuntimeCrashed
from gateway_server.files import outputs
from gateway_server.files.names import LONGEST
from gateway_server.files.outputs import Output, collect, group
from gateway_server.files.staging import stage
from gateway_server.store import local_objects

from .conftest import PRINCIPALS, House
from .gates import Gate, cancel, writes_into_no_other

pytestmark = pytest.mark.anyio


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    lay_out(folder)
    return folder


def inputs(workspace: Path) -> dict[str, bytes]:
    top = workspace / "data" / "inputs"
    return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}


async def test_inputs_lie_under_their_names_and_doubles_are_numbered(house: House, workspace: Path) -> None:
    files = [await house.put(data, name) for data, name in [(b"1", "名.txt"), (b"2", "名.txt"), (b"3", "x" * 300)]]
    await stage(house.objects, {"input": files, "more": files[:1], "none": []}, workspace, None)
    assert inputs(workspace) == {
        "input/名.txt": b"1",
        "input/名 (2).txt": b"2",
        f"input/{'x' * LONGEST}": b"3",
        "more/名.txt": b"1",
    }


async def test_a_large_input_is_copied_whole(house: House, workspace: Path) -> None:
    data = os.urandom(900_000)
    await stage(house.objects, {"in": [await house.put(data)]}, workspace, None)
    assert inputs(workspace) == {"in/a.txt": data}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
async def test_inputs_belong_to_the_worker_alone(house: House, workspace: Path) -> None:
    await stage(house.objects, {"in": [await house.put()]}, workspace, 4321)
    for path in (workspace / "data/inputs/in", workspace / "data/inputs/in/a.txt"):
        assert (path.stat().st_uid, path.stat().st_mode & 0o077) == (4321, 0)


async def test_strange_keys_stay_below_the_inputs(house: House, workspace: Path) -> None:
    file = await house.put()
    await stage(house.objects, {"../../up": [file], "..": [file]}, workspace, None)
    assert inputs(workspace) == {"up/a.txt": b"data", "file/a.txt": b"data"}


async def test_no_input_goes_through_a_link(house: House, workspace: Path, tmp_path: Path) -> None:
    file = await house.put()
    outside = tmp_path / "outside"
    outside.mkdir()
    (workspace / "data/inputs/in").symlink_to(outside)
    with pytest.raises(RuntimeCrashed):
        await stage(house.objects, {"in": [file]}, workspace, None)
    (workspace / "data/inputs/in").unlink()
    (workspace / "data/inputs/in").mkdir()
    (workspace / "data/inputs/in/a.txt").symlink_to(outside / "target")
    with pytest.raises(RuntimeCrashed):
        await stage(house.objects, {"in": [file]}, workspace, None)
    (workspace / "data/inputs/in/a.txt").unlink()
    (workspace / "data/inputs/in").rmdir()
    (workspace / "data/inputs").rmdir()
    (workspace / "data/inputs").symlink_to(outside)
    with pytest.raises(RuntimeCrashed):
        await stage(house.objects, {"in": [file]}, workspace, None)
    assert list(outside.iterdir()) == []


async def test_an_input_that_is_gone_is_told(house: House, workspace: Path) -> None:
    file = await house.put()
    await house.objects.delete([file.key])
    with pytest.raises(FileNotFound):
        await stage(house.objects, {"in": [file]}, workspace, None)


def cannot(*_: object) -> int:
    raise OSError(errno.EXDEV, "another file system")


async def test_an_input_does_not_go_on_into_the_next_file_that_is_opened(
    house: House, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, gate = await house.put(b"of one user"), Gate()
    monkeypatch.setattr(os, "copy_file_range", cannot)
    monkeypatch.setattr(local_objects, "write_all", gate.before(local_objects.write_all))
    staging = asyncio.create_task(stage(house.objects, {"in": [file]}, workspace, None))
    await writes_into_no_other(staging, gate, tmp_path / "of another")


@pytest.mark.parametrize("by_kernel", [True, False])
async def test_a_copy_that_nobody_waits_for_ends_soon(
    house: House, workspace: Path, monkeypatch: pytest.MonkeyPatch, by_kernel: bool
) -> None:
    file, gate = await house.put(bytes(100_000)), Gate()
    monkeypatch.setattr(local_objects, "_STEP", 1000)
    monkeypatch.setattr(local_objects, "BLOCK", 1000)
    monkeypatch.setattr(os, "copy_file_range", gate.before(os.copy_file_range) if by_kernel else cannot)
    monkeypatch.setattr(local_objects, "write_all", gate.before(local_objects.write_all))
    staging = asyncio.create_task(stage(house.objects, {"in": [file]}, workspace, None))
    await gate.reached()
    await cancel(staging, times=1)
    gate.open()
    with pytest.raises(asyncio.CancelledError):
        await staging
    assert gate.passed == 1


def names(workspace: Path, **limits: int) -> list[str]:
    return [output.relative for output in collect(workspace, **limits).outputs]


def test_outputs_are_found_in_order_with_their_folders(workspace: Path) -> None:
    top = workspace / "data/outputs"
    (top / "b/c").mkdir(parents=True)
    for name in ("z.txt", "a.txt", "b/c/名.txt", "b/x"):
        (top / name).write_text(name)
    found = collect(workspace)
    assert [output.relative for output in found.outputs] == ["a.txt", "b/c/名.txt", "b/x", "z.txt"]
    assert [output.size for output in found.outputs] == [5, len("b/c/名.txt".encode()), 3, 5]
    assert found.skipped == []


def test_only_regular_files_of_the_worker_count(workspace: Path, tmp_path: Path) -> None:
    top = workspace / "data/outputs"
    (tmp_path / "secret").write_text("secret")
    (top / "link").symlink_to(tmp_path / "secret")
    (top / "folder").symlink_to(tmp_path)
    (top / "broken").symlink_to("nowhere")
    os.mkfifo(top / "pipe")
    (top / "fine").write_text("fine")
    (top / "big").write_text("x" * 11)
    found = collect(workspace, limit=10)
    assert [output.relative for output in found.outputs] == ["fine"]
    assert len(found.skipped) == 5
    assert names(workspace, owner=os.geteuid()) == ["big", "fine"]
    assert names(workspace, owner=4321) == []


def test_outputs_that_are_a_link_are_none(workspace: Path, tmp_path: Path) -> None:
    (workspace / "data/outputs").rmdir()
    (workspace / "data/outputs").symlink_to(tmp_path)
    found = collect(workspace)
    assert found.outputs == []
    assert len(found.skipped) == 1


def test_names_that_are_no_text_are_kept_apart(workspace: Path) -> None:
    top = os.fsencode(workspace / "data/outputs")
    for name in (b"\xff.txt", b"\xfe.txt", b"a\nb", b"back\\slash"):
        (Path(os.fsdecode(top)) / os.fsdecode(name)).write_bytes(name)
    found = {output.relative: output for output in collect(workspace).outputs}
    assert sorted(found) == ["_ (2).txt", "_.txt", "a_b", "slash"]
    descriptor = found["_ (2).txt"].open()
    assert os.read(descriptor, 10) in (b"\xff.txt", b"\xfe.txt")
    os.close(descriptor)


def test_walks_are_bounded(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "MOST_FILES", 3)
    deep = workspace / "data/outputs"
    for _ in range(40):
        deep /= "d"
        deep.mkdir()
        if len(deep.relative_to(workspace).parts) > 35:
            (deep / "deep").write_text("")
    assert names(workspace) == []
    assert "deeper" in collect(workspace).skipped[0]
    for number in range(5):
        (workspace / "data/outputs" / str(number)).write_text("")
    found = collect(workspace)
    assert [output.relative for output in found.outputs] == ["0", "1", "2"]
    assert "at most 3" in found.skipped[-1]
    (workspace / "data/outputs" / ("e" * 200) / ("e" * 200) / ("e" * 200)).mkdir(parents=True)
    (workspace / "data/outputs" / ("e" * 200) / ("e" * 200) / ("e" * 200) / "x").write_text("")
    monkeypatch.setattr(outputs, "MOST_FILES", 100)
    assert names(workspace) == ["0", "1", "2", "3", "4"]


def found(*names: str) -> list[Output]:
    return [Output(name, 0, Path(), name) for name in names]


def grouped(keys: list[str], *names: str) -> dict[str, list[str]]:
    return {key: [output.relative for output in group] for key, group in group(found(*names), keys).items()}


def test_one_key_takes_everything() -> None:
    assert grouped(["report"], "a", "charts/b") == {"report": ["a", "charts/b"]}
    assert grouped(["report"]) == {}


def test_several_keys_are_folders_and_the_rest_is_output() -> None:
    found = grouped(["pdf", "图"], "a", "pdf", "pdf/x", "图/y", "other/z", "pdf/deep/w")
    assert found == {"pdf": ["pdf/x", "pdf/deep/w"], "图": ["图/y"], "output": ["a", "pdf", "other/z"]}
    assert list(found) == ["pdf", "图", "output"]
    assert grouped(["pdf", "output"], "a", "output/b", "pdf/x") == {"pdf": ["pdf/x"], "output": ["a", "output/b"]}


def test_without_a_key_everything_is_output() -> None:
    assert grouped([], "a", "b/c") == {"output": ["a", "b/c"]}
    assert grouped([]) == {}


async def test_outputs_are_kept_under_the_job(house: House, workspace: Path) -> None:
    top = workspace / "data/outputs"
    (top / "sub").mkdir()
    (top / "报告.pdf").write_bytes(b"report")
    (top / "sub/gone").write_bytes(b"gone")
    found = collect(workspace).outputs
    (top / "sub/gone").unlink()
    stored = await house.library.store_outputs(
        user="alice", job_id="job-3", root_id="job-1", outputs=group(found, ["a", "sub"])
    )
    assert list(stored) == ["output"]
    [file] = stored["output"]
    assert file.key == "prefab-outputs/alice/2025/11/07/job-3/报告.pdf"
    assert (file.name, file.size, file.job_id) == ("报告.pdf", 6, "job-3")
    for who in ("person", "call"):
        assert await house.library.find(PRINCIPALS[who], file.s3_url) == file
    assert len(house.on_disk()) == 1
    assert await house.library.store_outputs(user="alice", job_id="j", root_id="j", outputs={}) == {}


@pytest.mark.parametrize("replace", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/etc/passwd")])
async def test_an_output_that_became_something_else_is_left_out(
    house: House, workspace: Path, replace: Callable[[Path], None]
) -> None:
    (workspace / "data/outputs/x").write_bytes(b"x")
    found = collect(workspace).outputs
    (workspace / "data/outputs/x").unlink()
    replace(workspace / "data/outputs/x")
    stored = await house.library.store_outputs(
        user="alice", job_id="j", root_id="j", outputs={"output": found}, durable=False
    )
    assert stored == {}


async def test_a_repeated_job_replaces_its_outputs(house: House, workspace: Path) -> None:
    for content in (b"first", b"second"):
        (workspace / "data/outputs/x").write_bytes(content)
        found = {"output": collect(workspace).outputs}
        stored = await house.library.store_outputs(user="alice", job_id="j", root_id="j", outputs=found)
    [file] = stored["output"]
    assert (await house.library.find(PRINCIPALS["person"], file.s3_url)).size == 6
    assert len(house.on_disk()) == 1


async def test_a_copy_that_is_cancelled_lets_go_of_its_file_first(house: House) -> None:
    started, go_on = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        go_on.wait()

    task = asyncio.create_task(house.objects.disk.run(work))
    await asyncio.to_thread(started.wait)
    task.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_inputs_lie_under_the_very_key_that_the_function_looks_under(house: House, workspace: Path) -> None:
    file = await house.put()
    await stage(house.objects, {"aux": [file], " spaced ": [file], "...": [file]}, workspace, None)
    assert set(inputs(workspace)) == {"aux/a.txt", " spaced /a.txt", ".../a.txt"}


def test_what_takes_nothing_on_the_disk_takes_room_among_the_outputs(workspace: Path) -> None:
    """Files with holes, and names of the same file: as copies they would fill the disk of the gateway."""
    top = workspace / "data/outputs"
    for name in "ab":
        with (top / name).open("wb") as file:
            file.truncate(600)
    (top / "c").write_bytes(b"x" * 300)
    for name in "de":
        os.link(top / "c", top / name)
    found = collect(workspace, most=1000)
    assert [output.relative for output in found.outputs] == ["a", "c"]
    assert len(found.skipped) == 3
    assert "at most 1000 bytes in all" in found.skipped[0]
