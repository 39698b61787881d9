"""The event loop at which the coroutines of a process run."""

import asyncio
import contextvars
import os
import socket
import threading

import pytest

from gateway_runtime.coroutines import run


def test_the_calls_of_a_process_share_an_event_loop():
    """Or a client that a package makes once, at import, would be of no use from the second call on."""
    loops, seen = set(), contextvars.ContextVar("seen", default=0)

    async def where():
        loops.add(asyncio.get_running_loop())
        seen.set(seen.get() + 1)
        return [len(loops), seen.get()]

    assert [run(where()) for _ in range(3)] == [[1, 1]] * 3


def test_a_call_leaves_nothing_running_at_the_event_loop():
    ended = []

    async def lasts():
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("task")

    async def leaves():
        ended.append(asyncio.create_task(lasts()))
        return await asyncio.to_thread(threading.active_count)

    async def counts():
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            ended.append("generator")

    async def breaks():
        kept = counts()  # else it would end when it is forgotten, which is not always at once
        async for _ in kept:
            break
        ended.append(kept)

    before = threading.active_count()
    for _ in range(2):
        assert run(leaves()) == before + 1
        assert threading.active_count() == before
        run(breaks())
        assert ended[1::2] == ["task", "generator"]
        ended.clear()


def test_a_loop_that_was_closed_is_replaced():
    async def where():
        return asyncio.get_running_loop()

    run(where()).close()
    assert not run(where()).is_closed()


@pytest.mark.parametrize("error", [ValueError, SystemExit, asyncio.CancelledError])
def test_whatever_a_coroutine_raises_is_raised_and_the_next_one_runs(error):
    async def raises():
        raise error

    async def answers():
        return 5

    with pytest.raises(error):
        run(raises())
    assert run(answers()) == 5


@pytest.mark.parametrize("room", [0, 1])
def test_a_thread_that_a_call_has_left_ends_though_it_waits_for_the_event_loop(room):
    """Be it for what comes, or for what never comes, as room in a queue from which nobody takes any more."""
    raised = []

    async def takes_the_first():
        loop, queue = asyncio.get_running_loop(), asyncio.Queue(room)

        def produces():
            try:
                for number in range(3):
                    asyncio.run_coroutine_threadsafe(queue.put(number), loop).result(timeout=20)
            except BaseException as error:
                raised.append(type(error))

        loop.run_in_executor(None, produces)
        return await queue.get()

    before = threading.active_count()
    assert run(takes_the_first()) == 0
    assert threading.active_count() == before
    assert TimeoutError not in raised


@pytest.mark.parametrize("times", [1, 100])
def test_what_begins_when_a_task_is_ended_is_ended_too(times):
    begun = []

    async def lasts():
        await asyncio.sleep(3600)

    def begin(_=None):
        if len(begun) <= times:
            begun.append(asyncio.get_running_loop().create_task(lasts()))
            begun[-1].add_done_callback(begin)

    async def leaves():
        begin()
        await asyncio.sleep(0)

    async def goes_on():
        await asyncio.sleep(0)
        return asyncio.all_tasks() - {asyncio.current_task()}

    run(leaves())
    count = len(begun)
    assert count > 1
    assert run(goes_on()) == set()
    assert len(begun) == count


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python 3.12 and later: fork with threads
def test_a_forked_copy_ends_nothing_of_its_parent(tmp_path):
    async def lasts():
        try:
            await asyncio.sleep(3600)
        finally:
            with (tmp_path / "ended").open("a") as file:
                file.write(f"{os.getpid()}\n")

    async def forks():
        asyncio.get_running_loop().create_task(lasts())
        await asyncio.sleep(0)
        return os.fork()

    parent = os.getpid()
    try:
        child = run(forks())
    finally:
        if os.getpid() != parent:
            os._exit(0)
    os.waitpid(child, 0)
    assert (tmp_path / "ended").read_text() == f"{parent}\n"


def test_a_client_that_is_kept_hears_first_what_has_ended_since():
    """Or it would send the next request where nobody is any more."""
    kept = []

    async def connects(port):
        kept.extend(await asyncio.get_running_loop().create_connection(ClosedAtEnd, "127.0.0.1", port))

    async def looks():
        return kept[0].is_closing(), kept[1].is_lost

    with socket.create_server(("127.0.0.1", 0)) as server:
        run(connects(server.getsockname()[1]))
        server.accept()[0].close()
    assert run(looks()) == (True, True)


class ClosedAtEnd(asyncio.Protocol):
    is_lost = False

    def connection_lost(self, _error):
        self.is_lost = True
