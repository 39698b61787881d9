"""A gateway under mixed load, watched for what grows: memory, descriptors, temporary files, the database.

    python scripts/soak.py --minutes 30

Ends with exit code 1 if a call was answered wrongly or something grew that must not. Memory may grow while caches fill:
it is judged by its slope over the time after the warm-up, which is a third of the whole.
"""

import argparse
import asyncio
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from gateways import Gateway, memory_mb, running_gateway
from packages import write_package
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from gateway_sdk import AsyncGatewayClient, PrefabCall, ValidationError

WORK = """
import time
from pathlib import Path

def echo(text: str):
    return {"text": text}

def counts(n: int):
    for i in range(n):
        yield {"type": "content", "data": str(i)}

def copies():
    for path in Path("data/inputs/input").iterdir():
        (Path("data/outputs") / path.name).write_bytes(path.read_bytes())

def prints(size: int):
    print("x" * size)

def raises(text: str):
    raise ValueError(text)
"""
FILES = {
    "copies": {
        "files": {
            "input": {"type": "array", "items": {"type": "InputFile"}},
            "output": {"type": "array", "items": {"type": "OutputFile"}},
        }
    }
}
WHERE = ("work", "1.0.0")
USERS = 8
CALLERS = 12
MOST_GROWTH = 1.0
"""Megabytes in ten minutes."""


@dataclass
class Tally:
    """What was done, and what went wrong."""

    done: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Sample:
    """What a gateway holds at a moment."""

    at: float
    memory: float
    descriptors: int
    files: int


async def run_one(client: AsyncGatewayClient) -> None:
    text = str(random.random())
    assert (await client.run(*WHERE, "echo", {"text": text})).get("text") == text


async def run_stream(client: AsyncGatewayClient) -> None:
    events = [
        event.data async for event in client.run(*WHERE, "counts", {"n": 20}, stream=True) if event.type == "content"
    ]
    assert events == [str(n) for n in range(20)], events


async def run_batch(client: AsyncGatewayClient) -> None:
    batch = await client.run_batch([PrefabCall(*WHERE, "echo", {"text": str(n)}) for n in range(5)])
    assert [result.get("text") for result in batch.results] == [str(n) for n in range(5)], batch


async def run_failing(client: AsyncGatewayClient) -> None:
    assert not (await client.run(*WHERE, "raises", {"text": "no"})).is_success()
    try:
        await client.run(*WHERE, "echo", {"text": 1})
    except ValidationError:
        return
    raise AssertionError("a wrong argument was taken")


async def run_printing(client: AsyncGatewayClient) -> None:
    assert (await client.run(*WHERE, "prints", {"size": 50_000})).is_success()


async def submit_one(client: AsyncGatewayClient) -> None:
    job = await client.submit(*WHERE, "counts", {"n": 10})
    assert [event.id async for event in job.events()] == list(range(1, 13))
    assert (await job.result(timeout=60)).is_success()
    assert await job.status() == "succeeded"


async def leave_stream(client: AsyncGatewayClient) -> None:
    async with client.run(*WHERE, "counts", {"n": 100_000}, stream=True) as events:
        async for event in events:
            if event.type == "content":
                break


async def copy_file(client: AsyncGatewayClient) -> None:
    with tempfile.NamedTemporaryFile(suffix=".bin") as file:
        file.write(os.urandom(20_000))
        file.flush()
        url = await client.upload_temp_file(file.name, ttl_hours=1)
        result = await client.run(*WHERE, "copies", {}, {"input": [url]})
        assert len(result.get_file_urls()) == 1


WORKS = {
    run_one: 40,
    run_stream: 10,
    run_batch: 5,
    run_failing: 5,
    run_printing: 5,
    submit_one: 10,
    leave_stream: 3,
    copy_file: 5,
}


async def call(gateway: Gateway, tokens: list[str], tally: Tally, ends: float) -> None:
    """One caller, who does one thing after the other."""
    while time.monotonic() < ends:
        work = random.choices(list(WORKS), list(WORKS.values()))[0]
        client = AsyncGatewayClient(random.choice(tokens), gateway.url)
        try:
            await work(client)
            tally.done[work.__name__] += 1
        except Exception as error:
            tally.wrong.append(f"{work.__name__}: {error!r}")


def look(gateway: Gateway) -> Sample:
    """What the gateway's process holds now, and the files beside its objects and its database."""
    folders = [
        path for path in gateway.data.iterdir() if path.is_dir() and path.name not in ("objects", "environments")
    ]
    files = sum(len(names) for folder in folders for _, _, names in os.walk(folder))
    descriptors = len(os.listdir(f"/proc/{gateway.pid}/fd"))
    return Sample(time.monotonic(), memory_mb(gateway.pid), descriptors, files)


async def watch(gateway: Gateway, samples: list[Sample], tally: Tally, seconds: float, quiet: bool) -> None:
    """Looks every so often, and shows how far it is."""
    start = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    with Progress(*columns, disable=quiet) as progress:
        bar = progress.add_task("mixed load", total=seconds, rate="")
        while (gone := time.monotonic() - start) < seconds:
            samples.append(await asyncio.to_thread(look, gateway))
            done = sum(tally.done.values())
            rate = f"{done / max(gone, 1):.0f} operations/s, {len(tally.wrong)} wrong, {samples[-1].memory:.0f} MB"
            progress.update(bar, completed=gone, rate=rate)
            await asyncio.sleep(max(0.2, seconds / 300))


def judge(samples: list[Sample], tally: Tally, *, growth: bool) -> list[str]:
    """What must not be so; growth is judged where there was time to warm up."""
    found = [f"{len(tally.wrong)} operations went wrong, such as {tally.wrong[:3]}"] if tally.wrong else []
    late = samples[len(samples) // 3 :]
    early, last = late[: len(late) // 2], late[len(late) // 2 :]
    slope = statistics.linear_regression([s.at for s in late], [s.memory for s in late]).slope * 600
    memory = " -> ".join(f"{sample.memory:.1f}" for sample in (samples[0], late[0], last[0], late[-1]))
    print(f"memory {memory} MB, {slope:+.2f} MB in ten minutes")
    if growth and slope > MOST_GROWTH:
        found.append(f"memory grows by {slope:.2f} MB in ten minutes")
    for name in ("descriptors", "files"):
        before, after = (statistics.median(getattr(s, name) for s in part) for part in (early, last))
        print(f"{name} {before:.0f} -> {after:.0f}")
        if growth and after > before * 1.05 + 5:
            found.append(f"{name} grow from {before:.0f} to {after:.0f}")
    return found


async def soak(gateway: Gateway, seconds: float, *, quiet: bool) -> tuple[list[Sample], Tally]:
    """Has callers at work for so long."""
    tokens = [await asyncio.to_thread(gateway.token, f"user-{n}", "agent") for n in range(USERS)]
    samples: list[Sample] = []
    tally, ends = Tally(), time.monotonic() + seconds
    callers = [asyncio.create_task(call(gateway, tokens, tally, ends)) for _ in range(CALLERS)]
    await watch(gateway, samples, tally, seconds, quiet)
    await asyncio.gather(*callers)
    return samples, tally


def main(arguments: Any = None) -> int:
    """Runs it; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder, running_gateway(Path(folder) / "data") as gateway:
        gateway.publish(write_package(Path(folder) / "work", WORK, prefab_id="work", functions=FILES))
        samples, tally = asyncio.run(soak(gateway, options.minutes * 60, quiet=options.quiet))
        found = judge(samples, tally, growth=options.minutes >= 10)
        if "unexpected error" in gateway.log():
            found.append(f"the gateway's log tells of errors:\n{gateway.log()[-3000:]}")
    print(", ".join(f"{name} {count}" for name, count in sorted(tally.done.items())))
    for line in found:
        print(f"NOT GOOD: {line}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
