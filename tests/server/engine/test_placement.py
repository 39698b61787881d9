"""Where the file system puts the folders of workers."""

import fcntl
import os

import pytest

from gateway_server.engine.local import placement


def flags(folder):
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return int.from_bytes(fcntl.ioctl(descriptor, placement._GET_FLAGS, bytes(8)), "little")
    except OSError:
        pytest.skip("this file system has no such attributes")
    finally:
        os.close(descriptor)


def test_what_is_made_in_a_folder_is_spread_and_nothing_else_changes(tmp_path):
    before = flags(tmp_path)
    placement.spread(tmp_path)
    after = flags(tmp_path)
    if not after & placement._TOP:
        pytest.skip("this file system does not spread")
    assert after == before | placement._TOP
    placement.spread(tmp_path)
    assert flags(tmp_path) == after


def test_where_that_cannot_be_done_nothing_is(tmp_path):
    placement.spread(tmp_path / "missing")
    (tmp_path / "file").touch()
    placement.spread(tmp_path / "file")
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "link").symlink_to(target)
    placement.spread(tmp_path / "link")
    assert not flags(target) & placement._TOP
