"""What the sandbox costs: a new worker with it and without, an idle worker's memory, and the watchdog's share.

    .venv/bin/python scripts/sandbox_cost.py

Run as root for the strongest level. Prints medians of milliseconds from asking for a worker to its first answer.
"""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from gateway_server.engine.local import watchdog
from gateway_server.engine.local.pool import LocalEngine
from gateway_server.models import Deployment
from gateway_server.prefabs.support import lay_out_support
from gateway_server.settings import Settings

SOURCE = "import time\n\ndef nothing():\n    return 1\n\ndef waits(seconds):\n    time.sleep(seconds)\n"
ROUNDS, BUSY, PAUSE = 40, 16, 0.05


async def main() -> None:
    for sandbox in ("off", "auto", "off", "auto"):
        with tempfile.TemporaryDirectory() as folder:
            await measure(Path(folder), sandbox)


def lay_out(folder: Path) -> Path:
    folder.chmod(0o755)
    code = folder / "code"
    (code / "src").mkdir(parents=True)
    (code / "src/main.py").write_text(SOURCE)
    return code


async def measure(folder: Path, sandbox: str) -> None:
    code = lay_out(folder)
    deployment = Deployment(key="x", prefab_id="x", version="1", entry_point="src/main.py", code=code, packages=code)
    settings = Settings(data=folder, sandbox=sandbox, workers=64)
    engine = LocalEngine(
        settings, support=lay_out_support(folder / "support"), workspaces=folder / "work", base_url=lambda: ""
    )
    await engine.start()

    async def call(user: str, function: str, **parameters: object) -> float:
        order = {"function": function, "parameters": parameters, "environment": {}, "stream": False, "fold": False}
        begun = time.perf_counter()
        with await engine.worker(deployment, user) as worker:
            await worker.run(order, lambda _data: None)
        return (time.perf_counter() - begun) * 1000

    try:
        await call("warm", "nothing")
        single = []
        for number in range(ROUNDS):
            single.append(await call(f"one{number}", "nothing"))
            await asyncio.sleep(
                PAUSE
            )  # as new users come: a kernel that has just moved a process moves the next faster
        dense = [await call(f"row{number}", "nothing") for number in range(ROUNDS)]
        pids = [pid for zygote in engine._zygotes for pid in _children(zygote.pid)]
        pss = statistics.median(filter(None, map(_pss, pids)))
        calls = [asyncio.create_task(call(f"busy{number}", "waits", seconds=4)) for number in range(BUSY)]
        await asyncio.sleep(1)
        costs = []
        while not calls[0].done():
            costs.append(engine._watchdog.cost)
            await asyncio.sleep(0.25)
        await asyncio.gather(*calls)
        cost = statistics.median(costs)
        share = cost / max(watchdog.BUSY, cost / watchdog.SHARE)
        print(
            f"{engine.isolation.value:5} new worker {statistics.median(single):.1f} ms now and then, "
            f"{statistics.median(dense):.1f} ms in a row; idle worker {pss / 1024:.1f} MB; "
            f"a look at {BUSY} busy workers {cost * 1000:.1f} ms of processor time, "
            f"{share:.1%} of a core"
        )
    finally:
        await engine.close()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _pss(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))


asyncio.run(main())
