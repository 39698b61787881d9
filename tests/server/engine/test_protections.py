"""What doctor, /ready and a required sandbox are told was found by trying."""

import os

import pytest
from engine.conftest import gives_groups, running_engine
from engine.test_workers import run

from gateway_runtime import linux, seccomp
from gateway_server.engine.local import pool
from gateway_server.engine.local.cgroups import Unavailable
from gateway_server.errors import ServiceUnavailable


def found(folder, **options):
    async def main():
        async with running_engine(folder, **options) as engine:
            return {one.name: one for one in engine.local.protections}

    return run(main())


def refuse():
    raise Unavailable("not in this test")


def test_what_holds_at_each_level(folder, sandbox):
    told = found(folder, sandbox=sandbox)
    core = ("user namespace", "pid namespace", "mount namespace", "landlock", "seccomp", "no new privileges", "memory")
    assert {told[name].held for name in core} == {sandbox != "off"}
    assert all(one.detail for one in told.values())
    assert told["network isolation"].held is (sandbox != "off")
    assert not (told["firewall"].held and sandbox == "off")


def test_without_control_groups_memory_is_watched_and_the_processors_are_not(folder, sandbox, monkeypatch):
    monkeypatch.setattr(pool, "Cgroups", refuse)
    told = found(folder, sandbox=sandbox)
    assert told["memory"].held is (sandbox != "off")
    assert not told["cpu"].held
    assert "not in this test" in told["cpu"].detail or sandbox == "off"


@pytest.mark.parametrize(
    ("name", "break_it"),
    [
        ("landlock", lambda patch: patch.setattr(linux, "landlock_version", lambda: 0)),
        ("seccomp", lambda patch: patch.setattr(seccomp, "available", lambda: False)),
    ],
)
def test_a_required_sandbox_refuses_without_a_core_protection_and_names_it(
    folder, sandbox, monkeypatch, name, break_it
):
    break_it(monkeypatch)
    if sandbox == "off":
        assert not found(folder, sandbox="auto")[name].held  # anything else goes on without
        return
    with pytest.raises(ServiceUnavailable, match=f"{name} does not hold: needs"):
        found(folder, sandbox=sandbox)


def test_workers_that_cannot_enter_control_groups_do_without(folder, sandbox, monkeypatch):
    """As on kernels before 5.16: the entry is there, and whoever is not root may not use it."""
    if sandbox == "off":
        return
    if not gives_groups():
        pytest.skip("this machine gives no control groups")

    class Closed(pool.Cgroups):
        def add(self, *arguments, **options):
            group = super().add(*arguments, **options)
            group.open = lambda: [os.open("/dev/full", os.O_WRONLY)]
            return group

    monkeypatch.setattr(pool, "Cgroups", Closed)
    told = found(folder, sandbox=sandbox)
    assert told["memory"].held
    assert "cannot enter" in told["memory"].detail
