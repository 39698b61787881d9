"""Control groups: on a tree of plain files as version 2 has it, and for real where this machine lets us make them."""

import os
from pathlib import Path

import pytest

from gateway_runtime import groups
from gateway_server.engine.local.cgroups import Cgroups, Unavailable


def machine(folder: Path, *, mounts: str, paths: str, files: dict[str, str]) -> Path:
    """A machine's files below `folder`, as far as control groups are concerned."""
    for name, text in {"proc/self/mountinfo": mounts, "proc/self/cgroup": paths, **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def second(folder: Path, controllers: str = "cpuset cpu io memory pids") -> Path:
    """A machine with version 2 alone, whose gateway is a service of its own."""
    own = "sys/fs/cgroup/system.slice/gateway.service"
    return machine(
        folder,
        mounts="30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
        paths="0::/system.slice/gateway.service\n",
        files={
            f"{own}/cgroup.controllers": controllers,
            f"{own}/cgroup.type": "domain",
            f"{own}/{groups.MEMBERS}": f"{os.getpid()}\n",
        },
    )


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


@pytest.fixture(autouse=True)
def _plain_files(monkeypatch, request):
    """On plain files, the lists of controllers that the kernel would show have to be there to be read."""
    if "real" in request.fixturenames:
        return
    make = os.mkdir

    def mkdir(path, mode=0o777, **options):
        make(path, mode, **options)
        if "cgroup" in str(path):
            Path(path, "cgroup.controllers").write_text("cpu memory pids")

    monkeypatch.setattr(os, "mkdir", mkdir)


def test_version_2_moves_the_gateway_below_itself_and_bounds_each_family(tmp_path):
    system = second(tmp_path)
    own = tmp_path / "sys/fs/cgroup/system.slice/gateway.service"
    made = Cgroups(system)
    assert made.version == 2
    assert only(own, "gateway.*/cgroup.procs").read_text() == str(os.getpid())
    assert (own / "cgroup.subtree_control").read_text() == "+memory +cpu +pids"
    everything = only(own, "prefabs.*")
    assert made.folders == [str(everything)]
    assert (everything / "cgroup.subtree_control").read_text() == "+memory +cpu +pids"
    assert int((everything / "cpu.weight").read_text()) < 100  # the gateway's, unless somebody set another
    group = made.add("0.1-7", memory=64 << 20, cpu=0.5)
    inner = everything / "0.1-7"
    told = {name: (inner / name).read_text() for name in ("memory.max", "memory.swap.max", "cpu.weight", "pids.max")}
    assert told == {"memory.max": str(64 << 20), "memory.swap.max": "0", "cpu.weight": "51", "pids.max": "512"}
    assert (inner / "memory.oom.group").read_text() == "1"
    assert group.entries == [str(inner / groups.MEMBERS)]


@pytest.mark.parametrize(("events", "expected"), [("oom 3\noom_kill 0\n", False), ("oom 3\noom_kill 1\n", True)])
def test_the_kernels_counter_says_whether_memory_ran_out(tmp_path, events, expected):
    made = Cgroups(second(tmp_path))
    group = made.add("x", memory=1 << 20, cpu=1)
    assert not group.ran_out_of_memory()
    Path(made.folders[0], "x", "memory.events").write_text(events)
    assert group.ran_out_of_memory() is expected


def test_the_members_of_a_group_are_read_from_it(tmp_path):
    made = Cgroups(second(tmp_path))
    group = made.add("x", memory=1 << 20, cpu=1)
    assert group.processes() == []
    Path(group.entries[0]).write_text("12\n345\n")
    assert group.processes() == [12, 345]


def test_version_2_without_the_memory_controller_is_no_help(tmp_path):
    with pytest.raises(Unavailable, match="memory controller"):
        Cgroups(second(tmp_path, controllers="hugetlb"))
    with pytest.raises(Unavailable, match="has none"):
        Cgroups(tmp_path / "nowhere")


def test_version_1_is_found_below_the_gateways_own_groups(tmp_path):
    system = machine(
        tmp_path,
        mounts="31 23 0:27 / /cg/memory rw - cgroup cgroup rw,memory\n"
        "32 23 0:28 /docker/abc /cg/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
        "33 23 0:29 / /cg/unified rw - cgroup2 cgroup2 rw\n",
        paths="5:memory:/service\n4:cpu,cpuacct:/docker/abc\n0::/\n",
        files={
            "cg/memory/service/x": "",
            "cg/cpu/x": "",
            "cg/unified/cgroup.controllers": "",
        },
    )
    made = Cgroups(system)
    assert made.version == 1
    group = made.add("x", memory=1 << 20, cpu=2)
    name = Path(made.folders[0]).name
    assert {str(Path(entry).relative_to(tmp_path)) for entry in group.entries} == {
        f"cg/memory/service/{name}/x/{groups.THREADS}",
        f"cg/cpu/{name}/x/{groups.THREADS}",
    }
    assert (tmp_path / f"cg/memory/service/{name}/x/memory.limit_in_bytes").read_text() == str(1 << 20)
    assert (tmp_path / f"cg/cpu/{name}/x/cpu.shares").read_text() == "2048"
    assert (tmp_path / f"cg/cpu/{name}/cpu.shares").read_text() == "512"


@pytest.fixture
def real(monkeypatch):
    """What this machine offers."""
    try:
        made = Cgroups()
    except Unavailable as error:
        pytest.skip(f"no control groups here: {error}")
    yield made
    made.close()
    assert not any(os.path.exists(folder) for folder in made.folders)


@pytest.mark.usefixtures("real")
def test_a_group_that_was_made_for_somebody_who_left_is_made_anew():
    made = Cgroups()
    try:
        made.add("x", memory=1 << 20, cpu=1)
        group = made.add("x", memory=2 << 20, cpu=1)
        assert group.processes() == []
        assert group.remove()
    finally:
        made.close()


@pytest.mark.usefixtures("real")
def test_what_a_dead_gateway_left_is_removed_by_the_next(monkeypatch):
    monkeypatch.undo()
    dead = Cgroups()
    dead.add("x", memory=64 << 20, cpu=1)
    alive = Cgroups()
    assert all(os.path.exists(folder) for folder in dead.folders)  # it holds its lock
    for descriptor in dead._locks:
        os.close(descriptor)
    dead._locks.clear()
    last = Cgroups()
    try:
        assert not any(os.path.exists(folder) for folder in dead.folders)
        assert all(os.path.exists(folder) for folder in alive.folders)
    finally:
        last.close()
        alive.close()
