"""A gateway for what somebody is writing, from its start to its end."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from gateway_server.app import Gateway
from gateway_server.cli import dev_agent, dev_calls, dev_prefab, server, terminal
from gateway_server.cli.agent_folder import is_agent
from gateway_server.cli.failures import ADMIN_KEY
from gateway_server.prefabs.folders import MANIFEST
from gateway_server.settings import Settings

GRACE = 2
"""Seconds that calls get to end."""


def develop(settings: Settings, projects: list[Path], shown: Path) -> None:
    """Runs until it is told to end. `shown` is the data folder as it was given."""
    server.run(_develop(settings, projects, shown))


async def _develop(settings: Settings, projects: list[Path], shown: Path) -> None:
    is_first = not (settings.data / ADMIN_KEY).exists()
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    (settings.data / ".gitignore").write_text("*\n")
    async with AsyncExitStack() as stack:
        with terminal.busy(terminal.STARTING):
            gateway = await stack.enter_async_context(server.running(settings, grace=GRACE))
        if is_first:
            terminal.say(f"gateway: everything is kept in {shown}; programs on this machine need no key")
        terminal.data(f"gateway: listening on {gateway.base_url}")
        if is_first:
            terminal.say(f"The HTTP API is described at {gateway.base_url}/docs")
        if not projects:
            terminal.say(
                "There is nothing here. Write a prefab to begin with: gateway init NAME, then gateway dev NAME"
            )
        gateway.pipeline.tell(dev_calls.show)
        tasks = [asyncio.create_task(_follow(gateway, project)) for project in projects]
        try:
            await server.until_told()
            server.say_what_ends(gateway, GRACE)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _follow(gateway: Gateway, project: Path) -> None:
    if (project / MANIFEST).exists() or not is_agent(project):
        await dev_prefab.follow(gateway, project, _prefix(gateway))
    else:
        await dev_agent.follow(gateway, project, _prefix(gateway))


def _prefix(gateway: Gateway) -> str:
    """What has to stand before a command, so that it finds this gateway."""
    return "" if gateway.base_url == server.USUAL_URL else f"GATEWAY_BASE_URL={gateway.base_url} "
