"""A gateway that others use, from its start to its end."""

import ipaddress
import shlex
from contextlib import AsyncExitStack
from pathlib import Path

from gateway_server.app import Gateway
from gateway_server.cli import server, terminal
from gateway_server.cli.failures import ADMIN_KEY, use_of
from gateway_server.settings import Settings


def serve(settings: Settings, shown: Path) -> None:
    """Runs until it is told to end. `shown` is the data folder as it was given."""
    server.run(_serve(settings, shown))


async def _serve(settings: Settings, shown: Path) -> None:
    is_first = not (settings.data / ADMIN_KEY).exists()
    if not _is_loopback(settings.host):
        terminal.say(
            f"Warning: {settings.host} can be reached by other machines, and this gateway speaks plain HTTP. "
            "Put a proxy with TLS in front of it."
        )
    async with AsyncExitStack() as stack:
        with terminal.busy(terminal.STARTING):
            gateway = await stack.enter_async_context(server.running(settings))
        if is_first:
            terminal.say(f"gateway: everything is kept in {settings.data}")
            terminal.say(f"gateway: the API key of the admin is in {shown / ADMIN_KEY}")
        terminal.data(f"gateway: listening on {gateway.local_url}")
        if is_first:
            terminal.say(_next_steps(gateway))
        await server.until_told()
        server.say_what_ends(gateway, server.GRACE)


def _next_steps(gateway: Gateway) -> str:
    """What to do in another terminal, ready to be copied."""
    lines = [use_of(gateway.settings.data / ADMIN_KEY)]
    if gateway.local_url != server.USUAL_URL:
        lines.append(f"export GATEWAY_BASE_URL={shlex.quote(gateway.local_url)}")
    lines += ["gateway init hello", "gateway prefab publish hello", "gateway run hello@1.0.0 greet -p name=you"]
    commands = "".join(f"  {line}\n" for line in lines)
    return f"\nTo begin, in another terminal:\n\n{commands}\nThe HTTP API is described at {gateway.local_url}/docs"


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
