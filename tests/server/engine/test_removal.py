"""Folders that packages have filled go away, and nothing else does."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from gateway_server.engine.local import removal


def fill(folder: Path, count: int, outside: Path) -> None:
    (folder / "a" / "b").mkdir(parents=True)
    for number in range(count):
        (folder / "a" / f"-f{number}").write_text("x")
    (folder / "a" / "link").symlink_to(outside)
    (folder / "a" / "b" / "up").symlink_to("../..")


@pytest.mark.parametrize("count", [1, 3 * removal.FEW])
def test_a_folder_is_removed_and_what_links_point_to_stays(tmp_path: Path, count: int) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    fill(tmp_path / "-folder", count, outside)
    assert removal.is_large(tmp_path / "-folder") is (count > removal.FEW)
    removal.remove(tmp_path / "-folder")
    assert not (tmp_path / "-folder").exists()
    assert (outside / "kept").read_text() == "kept"


def test_a_folder_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    fill(tmp_path / "real", 3 * removal.FEW, tmp_path)
    (tmp_path / "link").symlink_to("real")
    removal.remove(tmp_path / "link")
    assert (tmp_path / "real" / "a" / "-f1").exists()


def test_a_folder_that_is_not_there_is_passed_over(tmp_path: Path) -> None:
    assert not removal.is_large(tmp_path / "none")
    removal.remove(tmp_path / "none")


@pytest.mark.parametrize("count", [1, 3 * removal.FEW])
def test_folders_that_nobody_may_write_to_are_removed_without_root(count: int) -> None:
    top = Path(tempfile.mkdtemp())
    if os.geteuid() == 0:
        os.chown(top, 65534, 65534)
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            fill(top / "folder", count, top)
            for name, mode in (("a/b", 0), ("a", 0o500)):
                (top / "folder" / name).chmod(mode)
            removal.remove(top / "folder")
            os._exit((top / "folder").exists())
        finally:
            os._exit(2)
    _, status = os.waitpid(child, 0)
    shutil.rmtree(top)
    assert os.waitstatus_to_exitcode(status) == 0
