"""Run as a program: a server of files in a folder, on a port of its own that it prints."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvicorn

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    from conftest import House


async def serve(folder: Path) -> None:
    house = House(folder)
    config = uvicorn.Config(house, port=0, log_level="error", lifespan="off", loop="uvloop", http="httptools")
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    address = server.servers[0].sockets[0].getsockname()
    house.address = f"http://127.0.0.1:{address[1]}"
    print(house.address, flush=True)
    await running


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
