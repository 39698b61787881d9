"""What one family does to the watchdog is no concern of the others."""

import os
from pathlib import Path
from typing import Any

import pytest

from gateway_server.engine.local import measuring, watchdog
from gateway_server.engine.local.watchdog import Family, Watchdog


def family(folder: Path, **changes: Any) -> Family:
    """A busy one, in a folder of its own with 8 KiB in a file, which is too much."""
    folder.mkdir()
    (folder / "file").write_bytes(bytes(8192))
    properties = {"memory": 1 << 30, "disk": 4096, "is_busy": True, "calls": 1, "group": None, "zygote": os.getpid()}
    return Family(**{"folder": folder, "pid": 0, "end": None, "user": "ann", **properties, **changes})


def test_one_whose_processes_cannot_be_told_does_not_hide_the_others(tmp_path: Path) -> None:
    odd, plain = family(tmp_path / "odd", pid=[1], disk=1 << 20), family(tmp_path / "plain")
    dog = Watchdog(list, tmp_path, most_files=10, reserve=0)
    assert [doomed for doomed, _ in dog.look([odd, plain])] == [plain]


@pytest.mark.parametrize(("step", "is_busy"), [("unlinked", True), ("disk", True), ("processor_time", False)])
def test_one_that_cannot_be_measured_does_not_hide_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, is_busy: bool
) -> None:
    odd, plain = family(tmp_path / "odd", is_busy=is_busy), family(tmp_path / "plain")
    measure, errors = getattr(measuring, step), [RuntimeError("how odd")]

    def fails_first(*arguments: Any) -> Any:
        if errors:
            raise errors.pop()
        return measure(*arguments)

    monkeypatch.setattr(watchdog.measuring, step, fails_first)
    dog = Watchdog(list, tmp_path, most_files=10, reserve=0)
    assert [doomed for doomed, _ in dog.look([odd, plain])] == [plain]
    assert not errors


def test_the_room_of_a_disk_leaves_its_reserve_free(tmp_path, monkeypatch):
    told = os.statvfs_result((4096, 4096, 1000, 600, 500, 0, 0, 0, 0, 255))
    monkeypatch.setattr(watchdog.os, "statvfs", lambda _folder: told)
    for reserve, free in ((0, 500), (40 * 4096, 460), (1 << 60, 450)):  # never more than a twentieth of the disk
        dog = watchdog.Watchdog(list, tmp_path, most_files=10, reserve=reserve)
        assert dog.room() == free * 4096
