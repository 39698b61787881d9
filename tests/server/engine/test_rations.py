"""Who gets how much of the processors while there is none to spare."""

from pathlib import Path

import pytest

from gateway_server.engine.local.cgroups import PERIOD, Group
from gateway_server.engine.local.rations import SHARE, Rations, Spent


class Machine:
    """Two processors, and the control groups of some families, as files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stat = folder / "stat"
        self.others = True
        self.moment = 100.0
        self.ticks = [0, 0]  # idle, all
        self.pass_time(idle=0.0)
        self.rations = Rations(lambda _user: self.others, stat=self.stat, cores=2)
        self.spent: dict[str, float] = {}

    def pass_time(self, *, idle: float) -> None:
        self.moment += 1
        self.ticks = [self.ticks[0] + int(200 * idle), self.ticks[1] + 200]
        busy = self.ticks[1] - self.ticks[0]
        self.stat.write_text(f"cpu  {busy} 0 0 {self.ticks[0]} 0 0 0 0 0 0\ncpu0 1 2 3\n")

    def group(self, name: str) -> Group:
        folder = self.folder / name
        if not folder.exists():
            folder.mkdir()
            (folder / "cpu.max").write_text("as it was")
        return Group([folder], folder)

    def look(self, *, idle: float, is_new: bool = False, **took: float) -> None:
        """A second passes in which families, called `user_number`, take so many seconds."""
        self.pass_time(idle=idle)
        for name, seconds in took.items():
            self.spent[name] = self.spent.get(name, 0.0) + seconds
        families = [
            Spent(name.partition("_")[0], self.folder / name, self.group(name), self.spent[name], is_new)
            for name in took
        ]
        self.rations.look(families, {self.folder / name for name in self.spent}, self.moment)

    def limit(self, name: str) -> str:
        return (self.folder / name / "cpu.max").read_text()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    made.look(idle=1.0)
    return made


def quota(cores: float) -> str:
    return f"{int(cores * PERIOD)} {PERIOD}"


def test_who_takes_most_of_a_full_machine_gets_a_share(machine: Machine) -> None:
    machine.look(idle=0.0, is_new=True, eve_1=0.9, eve_2=0.9, ann_1=0.1)
    assert machine.limit("eve_1") == machine.limit("eve_2") == quota(SHARE * 2 / 2)
    assert machine.limit("ann_1") == "as it was"


def test_a_share_is_that_of_all_families_of_a_user_together(machine: Machine) -> None:
    machine.look(idle=0.0, is_new=True, eve_1=0.9, eve_2=0.9, eve_3=0.1, eve_4=0.0)
    assert machine.limit("eve_4") == quota(SHARE * 2 / 4)


@pytest.mark.parametrize(("idle", "others"), [(0.5, True), (0.0, False)])
def test_nobody_is_rationed_who_stands_in_nobodys_way(machine: Machine, idle: float, others: bool) -> None:
    machine.others = others
    machine.look(idle=idle, is_new=True, eve_1=1.0)
    assert machine.limit("eve_1") == "as it was"


def test_what_nobody_else_uses_is_given_back_step_by_step(machine: Machine) -> None:
    machine.look(idle=0.0, is_new=True, eve_1=1.8)
    seen = []
    for _ in range(5):
        machine.look(idle=0.5, eve_1=0.6)
        seen.append(machine.limit("eve_1"))
    assert seen[:2] == [quota(SHARE * 2 * 1.5), quota(SHARE * 2 * 1.5**2)]
    assert seen[-1] == f"max {PERIOD}"


def test_a_ration_ends_at_once_when_the_others_have_gone(machine: Machine) -> None:
    machine.look(idle=0.0, is_new=True, eve_1=1.8)
    machine.others = False
    machine.look(idle=0.0, eve_1=0.6)
    assert machine.limit("eve_1") == f"max {PERIOD}"


def test_a_family_that_is_idle_now_is_let_go(machine: Machine) -> None:
    machine.look(idle=0.0, is_new=True, eve_1=1.8)
    machine.look(idle=0.0)
    assert machine.limit("eve_1") == f"max {PERIOD}"


def test_what_a_family_took_long_ago_does_not_count(machine: Machine) -> None:
    machine.spent["eve_1"] = 1000.0
    machine.look(idle=0.0, eve_1=0.1)  # seen for the first time, after many calls
    machine.look(idle=0.0, eve_1=0.1)
    assert machine.limit("eve_1") == "as it was"


def test_what_is_seen_now_and_then_is_counted_over_all_the_time_between(machine: Machine) -> None:
    machine.look(idle=0.0, is_new=True, eve_1=0.1)
    for _ in range(9):
        machine.look(idle=0.0)
    machine.look(idle=0.0, eve_1=1.9)  # in ten seconds
    assert machine.limit("eve_1") == "as it was"


def test_a_group_that_has_gone_is_passed_over(machine: Machine) -> None:
    machine.look(idle=0.0, is_new=True, eve_1=1.8)
    (machine.folder / "eve_1" / "cpu.max").unlink()
    (machine.folder / "eve_1").rmdir()
    machine.look(idle=0.0)


def test_a_machine_that_says_nothing_rations_nobody(machine: Machine) -> None:
    machine.stat.unlink()
    machine.rations.look([Spent("eve", machine.folder / "e", machine.group("e"), 9.0, True)], (), machine.moment + 1)
    assert machine.limit("e") == "as it was"
