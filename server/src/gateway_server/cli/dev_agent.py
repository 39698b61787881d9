"""An agent in `gateway dev`: started, registered, and started again whenever its code changes."""

import asyncio
import time
from pathlib import Path

from gateway_server.app import Gateway
from gateway_server.calls.agent_health import HEALTHY
from gateway_server.calls.agent_wishes import Wish
from gateway_server.cli import terminal
from gateway_server.cli.agent_folder import AgentFolder, read_agent
from gateway_server.cli.agent_process import AgentProcess
from gateway_server.cli.failures import explain
from gateway_server.cli.package import PUBLISHER
from gateway_server.cli.watching import watched

SOURCES = (".py", ".toml", ".env")
"""Files that make an agent start again; what else changes in its folder may be its own data."""


async def follow(gateway: Gateway, folder: Path, prefix: str) -> None:
    """Runs the agent of a folder until it is canceled. `prefix` comes before the commands that are shown."""
    serving: asyncio.Task[None] | None = None
    async with watched(folder, SOURCES) as changed:
        try:
            while True:
                changed.clear()
                serving = asyncio.create_task(_serve(gateway, folder, prefix))
                await changed.wait()
                await _end(serving)
        finally:
            if serving is not None:
                await _end(serving)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


async def _serve(gateway: Gateway, folder: Path, prefix: str) -> None:
    """Runs the agent once, to its end; what goes wrong is told, and mended by the next change."""
    try:
        await _run(gateway, read_agent(folder), prefix)
    except Exception as error:
        terminal.say(f"{folder}: {explain(error).message}")


async def _run(gateway: Gateway, agent: AgentFolder, prefix: str) -> None:
    began = time.monotonic()
    process = await AgentProcess.start(agent, gateway.local_url)
    try:
        wish = Wish(url=process.url, timeout=agent.timeout, health_path=agent.health_path)
        registered = await gateway.agents.add(agent.id, wish, PUBLISHER, check=False)
        if await process.listens():
            health = await gateway.agents.health(registered)
            terminal.say(f"{agent.id} at {process.url} started in {time.monotonic() - began:.1f} s")
            if health.status != HEALTHY:
                terminal.say(f"{agent.id} is {health.status}: {health.message}")
            terminal.say(f"  {prefix}gateway agent call {agent.id} {agent.health_path or '/'}")
        code = await process.ended()
        terminal.say(f"{agent.id} ended with exit code {code}. It starts again when its code changes.")
    finally:
        await process.stop()
