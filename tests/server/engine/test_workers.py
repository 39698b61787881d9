"""Functions run in real processes, at the best isolation of this machine and at none."""

import asyncio
import contextlib
import json
import os
import time
from pathlib import Path

import pytest
from engine.conftest import run, running_engine, value

from gateway_runtime import seccomp
from gateway_server.engine.local.isolation import Isolation
from gateway_server.engine.local.zygotes import ImportFailed
from gateway_server.errors import RuntimeCrashed
from gateway_server.models import Failure, Result


def alive_below(pid: int) -> list[int]:
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            state, parent = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state != "Z":
            parents[int(name)] = int(parent)
    found, layer = set(), {pid}
    while layer:
        layer = {child for child, parent in parents.items() if parent in layer}
        found |= layer
    return sorted(found)


def commands(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


async def until(condition, seconds: float = 20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        await asyncio.sleep(0.01)


def test_every_shape_of_function_gives_its_result(folder, sandbox):
    async def main():
        async with running_engine(folder, sandbox=sandbox) as engine:
            expected = {
                ("echo", (("text", "héllo 你好"),)): {"success": True, "text": "héllo 你好"},
                ("add", (("a", 1),)): 3,
                ("nothing", ()): None,
                ("waits", (("seconds", 0.01),)): {"waited": 0.01},
                ("tokens", (("n", 3),)): {"content": "t0 t1 t2 "},
                ("async_tokens", (("n", 2),)): {"content": "a0 a1 "},
                ("finishes", ()): {"success": True, "total": 1},
                ("returns_value", ()): {"value": 7},
                ("business_failure", ()): {"success": False, "error": "not today"},
                ("objects", ()): {
                    "events": [{"type": "content", "data": {"n": 1}}, {"type": "content", "data": {"n": 2}}]
                },
                ("odd_values", ()): {
                    "nan": None, "set": [1], "path": "a/b", "bytes": "x", "1": "one", "pair": [1, 2],
                },
            }  # fmt: skip
            for (function, parameters), wanted in expected.items():
                assert value(await engine.call("behaves", function, **dict(parameters))) == wanted

    run(main())


def test_streamed_events_come_one_by_one_and_end_with_done(folder, sandbox):
    async def main():
        async with running_engine(folder, sandbox=sandbox) as engine:
            answer = await engine.call("behaves", "finishes", stream=True)
            assert [json.loads(event)["type"] for event in answer.events] == ["progress", "content"]
            assert isinstance(answer.last, Result)
            assert answer.last.streamed
            assert value(answer) == {"success": True, "total": 1}
            assert b"too late" in answer.log
            plain = await engine.call("behaves", "echo", stream=True, text="x")
            assert isinstance(plain.last, Result)
            assert not plain.last.streamed

    run(main())


def test_of_a_function_that_forks_only_one_copy_is_heard(folder, sandbox):
    async def main():
        async with running_engine(folder, sandbox=sandbox) as engine:
            answer = await engine.call("misbehaves", "forks_and_yields", stream=True)
            assert [json.loads(event)["data"] for event in answer.events] == ["once"]

    run(main())


def test_failures_of_user_code_are_data(folder, sandbox):
    async def main():
        async with running_engine(folder, sandbox=sandbox) as engine:
            expected = {
                "raises": ("ValueError", "no such luck"),
                "exits": ("SystemExit", "3"),
                "recursion": ("RecursionError", "maximum recursion"),
                "returns_unserialisable": ("TypeError", "JSON cannot hold"),
                "returns_itself": ("ValueError", "contains itself"),
                "yields_then_raises": ("KeyError", "two"),
                "raises_odd": ("Odd", "Odd"),
            }
            for function, (kind, message) in expected.items():
                answer = await engine.call("misbehaves", function)
                assert isinstance(answer.last, Failure)
                assert answer.last.error["error_code"] == "PREFAB_ERROR"
                assert answer.last.error["type"].endswith(kind)
                assert message in answer.last.error["message"]
            said = await engine.call("behaves", "says_error")
            assert isinstance(said.last, Failure)
            assert (said.last.error["error_code"], said.last.error["message"]) == ("OUT_OF_PAPER", "no more paper")

    run(main())


def test_a_long_message_of_a_failure_is_cut_and_told(folder, sandbox):
    async def main():
        async with running_engine(folder, sandbox=sandbox) as engine:
            for text in ("😀", "你", "\x01", "x"):
                answer = await engine.call("misbehaves", "raises_at_length", text=text, times=100_000)
                assert isinstance(answer.last, Failure)
                assert answer.last.error["message"].startswith(text * 1000)

    run(main())


ENDS = {
    "exits_hard": "code 3",
    "killed": "SIGKILL|137",
    "killed_without_a_name": "signal 40|168",
    "segfaults": "SIGSEGV|139",
}


def test_a_dead_worker_is_told_and_replaced(folder, sandbox):
    async def main():
        async with running_engine(folder, sandbox=sandbox) as engine:
            zygotes = set()
            for function, reason in ENDS.items():
                with pytest.raises(RuntimeCrashed, match=reason):
                    await engine.call("misbehaves", function)
                zygotes.add(engine.local._hosts["misbehaves"].zygote)
            assert len(zygotes) == 1
            assert value(await engine.call("behaves", "echo", text="on")) == {"success": True, "text": "on"}

    run(main())


def test_a_worker_is_used_again_by_its_user_and_never_by_another(folder, sandbox):
    async def main():
        async with running_engine(folder, sandbox=sandbox) as engine:
            assert value(await engine.call("behaves", "count", user="ann")) == 1
            assert value(await engine.call("behaves", "count", user="ann")) == 2
            assert value(await engine.call("behaves", "count", user="bob")) == 1

    run(main())


def test_nothing_is_left_for_the_next_call(folder, sandbox):
    async def main():
        async with running_engine(folder, sandbox=sandbox) as engine:
            secret = {"SECRET": "of this call"}
            assert value(await engine.call("behaves", "environment", environment=secret))["SECRET"] == "of this call"
            assert value(await engine.call("behaves", "litter")) == "littered"
            assert value(await engine.call("misbehaves", "changes_environment")) == "changed"

            async def second():
                return value(await engine.call("behaves", "listing"))

            left = await second()
            assert left == {"here": [], "absolute": [], "tmp": []}
            told = value(await engine.call("behaves", "environment"))
            assert "SECRET" not in told
            told = value(await engine.call("misbehaves", "changes_environment"))
            assert value(await engine.call("behaves", "environment")).get("LEFT_BEHIND") is None

    run(main())


def test_absolute_paths_made_at_import_reach_the_workspace_of_the_call(folder, sandbox):
    async def main():
        async with running_engine(folder, sandbox=sandbox) as engine:
            with await engine.local.worker(engine.deployment("behaves"), "ann") as worker:
                inputs = worker.workspace / "data/inputs"
                (inputs / "x.txt").write_text("here")
                if worker.owner is not None:
                    os.chown(inputs / "x.txt", worker.owner, worker.owner)
                order = {"function": "listing", "parameters": {}, "environment": {}, "stream": False, "fold": False}
                last = await worker.run(order, lambda _: None)
            assert json.loads(last.json)["absolute"] == ["x.txt"]

    run(main())


def test_output_of_every_kind_reaches_the_log_and_never_the_result(folder, sandbox):
    async def main():
        async with running_engine(folder, sandbox=sandbox) as engine:
            answer = await engine.call("behaves", "prints", lines=3)
            assert value(answer) == "printed"
            for part in (b"line 2", b"to stderr", b"from below"):
                assert part in answer.log
            flood = await engine.call("misbehaves", "floods", megabytes=5)
            assert value(flood) == "flooded"
            assert len(flood.log) == 5 << 20
            assert value(await engine.call("misbehaves", "closes_everything")) == "closed"

    run(main())


def test_results_beyond_a_frame_arrive_whole(folder, sandbox):
    async def main():
        async with running_engine(folder, sandbox=sandbox) as engine:
            assert len(value(await engine.call("behaves", "large", size=5_000_000))["text"]) == 5_000_000
            too_long = await engine.call("behaves", "large", size=70 << 20)
            assert isinstance(too_long.last, Failure)
            assert "longer than the limit" in too_long.last.error["message"]

    run(main())


@pytest.mark.parametrize("function", ["hangs", "hangs_deaf", "escapes"])
def test_leaving_a_call_ends_its_whole_family(folder, sandbox, function):
    async def main():
        async with running_engine(folder, sandbox=sandbox) as engine:
            await engine.call("misbehaves", "raises", user="neighbour")
            await until(lambda: all(host.spares.are_ready for host in engine.local._hosts.values()))
            (host,) = engine.local._hosts.values()
            workers = 1 + host.spares.count()  # in the end as well: the one of the neighbour, and a spare
            quiet = 1 + workers * (2 if engine.local.isolation is Isolation.PIDS else 1)
            await until(lambda: len(alive_below(engine.local._launcher.pid)) == quiet)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await engine.call("misbehaves", function)
            await until(lambda: len(alive_below(engine.local._launcher.pid)) <= quiet)
            assert isinstance((await engine.call("misbehaves", "raises", user="neighbour")).last, Failure)

    run(main())


def test_children_that_a_call_left_behind_end_with_it(folder, sandbox):
    async def main():
        async with running_engine(folder, sandbox=sandbox) as engine:
            assert value(await engine.call("misbehaves", "leaves_child")) == "left"

            def children() -> list[int]:
                return [pid for pid in alive_below(engine.local._launcher.pid) if commands(pid).startswith(b"sleep")]

            await until(lambda: not children())
            await until(lambda: not engine.local.count_workers())

    run(main())


def test_packages_that_cannot_be_imported_say_why(folder, sandbox):
    async def main():
        async with running_engine(folder, sandbox=sandbox, import_timeout=1.0) as engine:
            with pytest.raises(ImportFailed, match="cannot be imported"):
                await engine.call("import_raises", "f")
            with pytest.raises(ImportFailed, match="told at length"):
                await engine.call("import_talks", "f")
            with pytest.raises(ImportFailed, match="died while importing"):
                await engine.call("import_exits", "f")
            with pytest.raises(ImportFailed, match="still importing"):
                await engine.call("import_hangs", "f")
            await until(lambda: not alive_below(engine.local._launcher.pid))

    run(main())


def test_packages_with_threads_at_import_are_imported_by_each_worker(folder, sandbox):
    async def main():
        async with running_engine(folder, sandbox=sandbox) as engine:
            told = value(await engine.call("import_starts_threads", "f"))
            assert told["threads"] == 2
            assert told["absolute"]
            assert value(await engine.call("import_starts_threads", "f"))["pid"] == told["pid"]

    run(main())


def test_the_end_of_the_engine_is_the_end_of_every_process(folder, sandbox):
    async def main():
        async with running_engine(folder, sandbox=sandbox) as engine:
            call = asyncio.create_task(engine.call("misbehaves", "escapes"))
            pid = engine.local._launcher.pid
            await until(lambda: len(alive_below(pid)) >= 3)
            below = alive_below(pid)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        await until(lambda: not [p for p in below if Path(f"/proc/{p}").exists()], 2.0)

    run(main())


def test_the_limit_on_workers_holds_and_queued_calls_get_their_turn(folder):
    async def main():
        async with running_engine(folder, workers=3) as engine:
            began = time.monotonic()
            calls = [engine.call("behaves", "sleeps", user=f"u{n % 2}", seconds=0.2) for n in range(9)]
            answers = await asyncio.gather(*calls)
            assert all(value(answer) == {"slept": 0.2} for answer in answers)
            assert time.monotonic() - began >= 0.6
            assert engine.local.count_workers() <= 6

    run(main())


def test_inside_the_sandbox_nothing_but_its_own_is_within_reach(folder):
    async def main():
        async with running_engine(folder) as engine:
            if engine.local.isolation == "none":
                pytest.fail(f"this machine offers no sandbox: {engine.local.refused}")
            told = value(await engine.call("behaves", "whoami"))
            assert told["cwd"] == "/workspace"
            assert told["home"] == "/workspace/.home"
            environment = value(await engine.call("behaves", "environment"))
            assert not {"HOSTNAME", "SSH_AUTH_SOCK", "VIRTUAL_ENV"} & set(environment)

    run(main())


def test_a_function_sees_no_descriptor_but_its_own(folder, sandbox):
    async def main():
        async with running_engine(folder, sandbox=sandbox) as engine:
            await engine.call("behaves", "count", user="another")
            seen = value(await engine.call("attacks", "descriptors"))
            assert [name for name, _ in seen[:3]] == ["0", "1", "2"]
            assert len(seen) == 5, "the worker's sockets"

    run(main())


def test_what_a_function_does_to_its_workspace_touches_nothing_else(folder, sandbox):
    async def main():
        victim = folder / "victim"
        (victim / "inner").mkdir(parents=True)
        (victim / "inner" / "file").write_text("precious")
        async with running_engine(folder, sandbox=sandbox) as engine:
            for function in ("links_temporary", "links_data", "links_inside", "removes_data", "links_result"):
                with contextlib.suppress(RuntimeCrashed):
                    await engine.call("attacks", function, target=str(victim))
                assert value(await engine.call("attacks", "is_fresh")) is True, function
        assert (victim / "inner" / "file").read_text() == "precious"
        assert [path.name for path in victim.rglob("*")] == ["inner", "file"]

    run(main())


@pytest.mark.skipif(not seccomp.available(), reason="this machine does not filter system calls")
def test_the_kernel_refuses_what_no_function_needs(folder, sandbox):
    """Inside, everything is refused, at import as well; outside, the same attempts come through, so they are real."""

    async def main():
        async with running_engine(folder, sandbox=sandbox) as engine:
            inside = [value(await engine.call("system_calls", name)) for name in ("in_function", "at_import")]
            assert value(await engine.call("system_calls", "still_works")) == [0, 6, "23"]
            return engine.local.isolation, inside

    isolation, inside = run(main())
    for attempts in inside:
        if isolation is Isolation.NONE:
            assert attempts["trace me"] == "done"
            assert attempts["mount"] == "No such file or directory"
        else:
            assert set(attempts.values()) == {"Operation not permitted"}, attempts


def test_a_small_python_on_a_large_kernel_is_not_filtered(monkeypatch):
    monkeypatch.setattr(seccomp.sys, "maxsize", 2**31 - 1)
    assert not seccomp.available()


def test_a_worker_takes_only_its_share_of_the_machines_tables(folder, sandbox):
    async def main():
        async with running_engine(folder, sandbox=sandbox) as engine:
            started = value(await engine.call("attacks", "fills_process_table", count=600))
            others = value(await engine.call("behaves", "count", user="bob"))
            limits = value(await engine.call("attacks", "limits"))
            return engine.local.isolation, engine.local.no_groups, started, others, limits

    isolation, no_groups, started, others, limits = run(main())
    assert others == 1
    is_bound = isolation is Isolation.UIDS or (sandbox != "off" and not no_groups)
    assert 400 < started < 512 if is_bound else started == 600
    if isolation is not Isolation.NONE:
        assert limits[0] == 0
        assert limits[1] <= 4096


def test_one_call_does_not_spoil_the_next(folder, sandbox):
    async def main():
        async with running_engine(folder, sandbox=sandbox) as engine:
            outputs = ("closes_output", "closes_descriptor", "detaches_output", "odd_output", "prints_later")
            for function in (*outputs, "sets_alarm", "forks_both", "removes_folder"):
                assert value(await engine.call("attacks", function)) == function
                answer = await engine.call("attacks", "prints", text=f"after {function}")
                assert value(answer) == f"after {function}"
                assert answer.log.decode() == f"after {function}\n"

    run(main())


def test_a_worker_that_talks_out_of_turn_is_not_listened_to(folder, sandbox):
    async def main():
        async with running_engine(folder, sandbox=sandbox) as engine:
            before = resident_mb()
            assert value(await engine.call("attacks", "floods_socket")) == "floods_socket"
            await asyncio.sleep(0.5)
            assert value(await engine.call("attacks", "prints", text="on")) == "on"
            assert resident_mb() - before < 50

    run(main())


def resident_mb() -> float:
    return int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0]) / 1024


def test_packages_that_take_the_signals_at_import_are_watched_all_the_same(folder, sandbox):
    async def main():
        async with running_engine(folder, sandbox=sandbox) as engine:
            async with asyncio.timeout(5):
                with pytest.raises(RuntimeCrashed, match="code 3"):
                    await engine.call("import_takes_signals", "exits")

    run(main())


def test_calls_that_wait_for_calls_do_not_wait_for_each_other(folder):
    async def main():
        async with running_engine(folder, workers=4) as engine:
            deployment = engine.deployment("behaves")

            async def nested() -> None:
                with await engine.local.worker(deployment, "ann", depth=0):
                    await asyncio.sleep(0.01)
                    with await engine.local.worker(deployment, "ann", depth=1):
                        await asyncio.sleep(0.01)

            async with asyncio.timeout(20):
                await asyncio.gather(*[nested() for _ in range(40)])
            assert not engine.local._places._running

    run(main())


def test_versions_never_share_uids_or_folders(folder):
    async def main():
        async with running_engine(folder) as engine:
            await engine.call("behaves", "count")
            engine.local._hosts["behaves"].zygote.close()
            with pytest.raises(ImportFailed):
                await engine.call("import_exits", "f")
            slots = []
            for package, function in (("misbehaves", "raises"), ("behaves", "count"), ("attacks", "is_fresh")):
                await engine.call(package, function)
                slots.append(engine.local._hosts[package].zygote.slot)
            assert len(set(slots)) == 3
            assert value(await engine.call("behaves", "count")) == 2

    run(main())
