"""The event loop of this process, at which its coroutines run, call after call.

To it is bound what a package keeps from one call to the next, such as a client with its connections. What a call
itself leaves there ends with it: tasks, asynchronous generators, threads and the values of context variables.
"""

import importlib
import os
import sys
from collections.abc import AsyncGenerator, Coroutine
from types import ModuleType
from typing import Any
from weakref import WeakSet

_OURS = tuple(sys.path)
_loop: Any = None


def load_asyncio() -> ModuleType:
    """`asyncio`, whose own imports shall find nothing of the package, which may have a `queue.py` of its own."""
    if (known := sys.modules.get("asyncio")) is not None and "concurrent.futures.thread" in sys.modules:
        return known
    path = sys.path[:]
    sys.path[:] = _OURS
    try:
        importlib.import_module("concurrent.futures.thread")  # asyncio would, when it is too late
        return importlib.import_module("asyncio")
    finally:
        sys.path[:] = path


def run(main: Coroutine[Any, Any, object]) -> object:
    """What a coroutine gives.

    Raises:
        BaseException: whatever it raises.
    """
    global _loop
    asyncio = load_asyncio()  # as a rule it is there since the package was imported
    if _loop is None or _loop.is_closed():
        _loop = asyncio.new_event_loop()  # not the thread's own, which is for functions that are no coroutines
    threads = sys.modules["concurrent.futures.thread"].ThreadPoolExecutor(thread_name_prefix="asyncio")
    _loop.set_default_executor(threads)
    generators: WeakSet[AsyncGenerator[Any, Any]] = WeakSet()
    process = os.getpid()
    try:
        return _loop.run_until_complete(_noting(asyncio.sleep, generators, main))
    finally:
        if os.getpid() == process:  # what a forked copy has is the loop of its parent
            _leave(asyncio, threads, generators)


def _leave(asyncio: ModuleType, threads: Any, generators: WeakSet[AsyncGenerator[Any, Any]]) -> None:
    """Ends what a call has left."""
    try:
        if threads._threads or generators or asyncio.all_tasks(_loop):
            _loop.run_until_complete(_end(asyncio, threads, generators))
    finally:
        if asyncio.all_tasks(_loop):  # those that come again whenever they are cancelled, else
            _loop.close()


async def _noting(
    sleep: Any, generators: WeakSet[AsyncGenerator[Any, Any]], main: Coroutine[Any, Any, object]
) -> object:
    """The same, and which asynchronous generators begin meanwhile: `shutdown_asyncgens` is for the end of a loop."""
    begin, _ = sys.get_asyncgen_hooks()

    def note(generator: AsyncGenerator[Any, Any]) -> None:
        generators.add(generator)
        if begin is not None:
            begin(generator)

    sys.set_asyncgen_hooks(firstiter=note)  # for as long as the loop runs now
    for _ in range(3):  # a client that is kept hears now which of its connections have ended since the last call
        await sleep(0)
    return await main


async def _end(asyncio: ModuleType, threads: Any, generators: WeakSet[AsyncGenerator[Any, Any]]) -> None:
    """The same at the loop; what that raises nobody wants to know any more."""
    await _cancel(asyncio)
    await asyncio.gather(*(generator.aclose() for generator in generators), return_exceptions=True)
    threads.shutdown(wait=False)
    pause = 0.0
    while alive := [thread for thread in threads._threads if thread.is_alive()]:
        alive[0].join(0.002)  # most end at once; others may wait for something that the loop is to do
        await asyncio.sleep(pause)
        pause = min(pause + 0.001, 0.05)
        if pause > 0.01:  # what has not come by now may never come, as room in a queue from which nobody takes
            await _cancel(asyncio)
    await _cancel(asyncio)


async def _cancel(asyncio: ModuleType) -> None:
    for _ in range(3):  # what is cancelled may leave something, too
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        if not tasks:
            break
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
