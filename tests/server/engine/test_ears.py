"""How many workers have the kernel tell of changes: never more than a part of what the machine has for all."""

from pathlib import Path
from typing import cast

import pytest

from gateway_server.engine.local.ears import MOST, Ears
from gateway_server.engine.local.worker import Worker


class Stub:
    """Stands for a worker, which is alive or not."""

    def __init__(self) -> None:
        self.alive = True


@pytest.mark.parametrize(("limit", "most"), [("128\n", 32), ("3", 0), ("0", 0), ("1000000", MOST), ("?", 0)])
def test_a_quarter_of_what_there_is(tmp_path: Path, limit: str, most: int) -> None:
    (tmp_path / "limit").write_text(limit)
    ears, workers = Ears(tmp_path / "limit"), [Stub() for _ in range(MOST + 10)]
    assert [ears.grant(cast(Worker, worker)) for worker in workers] == [at < most for at in range(MOST + 10)]


def test_what_the_dead_had_others_get(tmp_path: Path) -> None:
    (tmp_path / "limit").write_text("8")
    ears, workers = Ears(tmp_path / "limit"), [Stub() for _ in range(4)]
    granted = [ears.grant(cast(Worker, worker)) for worker in workers]
    assert granted == [True, True, False, False]
    workers[0].alive = False
    assert ears.grant(cast(Worker, new := Stub()))
    del workers[1]
    assert ears.grant(cast(Worker, other := Stub()))
    assert not ears.grant(cast(Worker, Stub()))
    assert new.alive
    assert other.alive


def test_none_where_the_machine_has_no_such_thing(tmp_path: Path) -> None:
    assert not Ears(tmp_path / "missing").grant(cast(Worker, Stub()))
