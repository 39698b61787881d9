"""Whether agents answer: asked when somebody wants to know, and remembered for a moment. Nothing asks in between."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import httpx

from gateway_server.calls.agent_wire import Agent, Unreached, Wire
from gateway_server.settings import Settings

HEALTHY, UNHEALTHY, UNREACHABLE, UNKNOWN = "healthy", "unhealthy", "unreachable", "unknown"
LIMIT = 5.0
"""Seconds that a single agent gets for its answer."""
LIMIT_OF_MANY = 1.0
"""The same where many are asked at once."""
FRESH = 5.0
"""Seconds for which an answer is good enough for a list."""
AT_ONCE = 64
Place = tuple[str, str | None]
_HEADERS = ((b"accept", b"*/*"), (b"user-agent", b"agent-builder-gateway"))
_WILDCARDS = frozenset({"0.0.0.0", "::"})  # noqa: S104  what a server is told to listen on, not where we do


@dataclass(frozen=True, kw_only=True)
class Health:
    """What an agent answered when it was asked."""

    status: str
    message: str
    checked_at: float | None = None
    latency: float | None = None
    """Seconds until the head of its answer."""
    is_gateway: bool = False
    """Whether it was this gateway itself that answered."""


class HealthChecks:
    """Asks agents how they are."""

    def __init__(self, wire: Wire, settings: Settings) -> None:
        self._wire = wire
        self._settings = settings
        self._known: dict[str, tuple[Place, Health]] = {}
        """By id; what was heard of an agent that has moved since says nothing."""
        self._running: dict[tuple[str, Place], asyncio.Task[None]] = {}
        """The checks of lists: whoever asks meanwhile waits for the same one."""
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def check(self, agent: Agent, limit: float = LIMIT) -> Health:
        """Asks one agent, now."""
        began, moment = time.perf_counter(), time.time()
        try:
            async with asyncio.timeout(limit):
                health = await self._ask(agent)
        except TimeoutError:
            health = Health(status=UNREACHABLE, message=f"no answer within {limit:g} s")
        except Unreached as error:
            health = Health(status=UNREACHABLE, message=str(error))
        else:
            health = replace(health, latency=time.perf_counter() - began)
        return self._remember(agent, replace(health, checked_at=moment))

    async def check_all(self, agents: Sequence[Agent]) -> dict[str, Health]:
        """By id. All are asked at the same time, and only briefly: no slow one holds up the others."""
        asked = [self._checking(agent) for agent in agents if not self._is_fresh(agent)]
        if asked:
            await asyncio.wait(asked, timeout=2 * LIMIT_OF_MANY)  # late ones end soon, for the next list
        return {agent.id: self._last(agent) for agent in agents}

    def note_unreachable(self, agent: Agent, reason: str) -> None:
        """What a call has found."""
        self._remember(agent, Health(status=UNREACHABLE, message=reason, checked_at=time.time()))

    def forget(self, agent_id: str) -> None:
        """It is gone."""
        self._known.pop(agent_id, None)

    def _checking(self, agent: Agent) -> asyncio.Task[None]:
        key = agent.id, _place(agent)
        if key not in self._running:
            task = self._running[key] = asyncio.create_task(self._check_in_turn(agent))
            task.add_done_callback(lambda _: self._running.pop(key))
        return self._running[key]

    async def _check_in_turn(self, agent: Agent) -> None:
        async with self._turns:
            await self.check(agent, LIMIT_OF_MANY)

    async def _ask(self, agent: Agent) -> Health:
        path = agent.health_path or "/"
        answer = await self._wire.send(agent, "GET", path.removeprefix("/").encode(), _HEADERS)
        try:
            is_well = answer.is_success or agent.health_path is None  # without a path of its own, any answer will do
            message = f"GET {path} answered {answer.status_code}"
            is_gateway = _is_ours(answer, self._settings)
            return Health(status=HEALTHY if is_well else UNHEALTHY, message=message, is_gateway=is_gateway)
        finally:
            await answer.aclose()

    def _remember(self, agent: Agent, health: Health) -> Health:
        self._known[agent.id] = (_place(agent), health)
        return health

    def _last(self, agent: Agent) -> Health:
        place, health = self._known.get(agent.id, (None, None))
        if health is None or place != _place(agent):
            return Health(status=UNKNOWN, message="not asked yet")
        return health

    def _is_fresh(self, agent: Agent) -> bool:
        checked_at = self._last(agent).checked_at
        return checked_at is not None and time.time() - checked_at < FRESH


def leads_to_gateway(url: str, settings: Settings) -> bool:
    """Whether an address is one of the gateway's own, by its text alone."""
    parts = urlsplit(url)
    if settings.public_url and f"{url}/".startswith(f"{settings.public_url.rstrip('/')}/"):
        return True
    port = parts.port or (443 if parts.scheme == "https" else 80)
    host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname or ""
    return port == settings.port and _is_here(host, (), settings)


def _place(agent: Agent) -> Place:
    return agent.url, agent.health_path


def _is_ours(answer: httpx.Response, settings: Settings) -> bool:
    """The same by the connection: it ended at this machine and at our port, whatever name led there."""
    stream: Any = answer.extensions.get("network_stream")
    server = stream and stream.get_extra_info("server_addr")
    client = stream and stream.get_extra_info("client_addr")
    return bool(server and client and server[1] == settings.port and _is_here(server[0], (client[0],), settings))


def _is_here(host: str, own: Iterable[str], settings: Settings) -> bool:
    """Whether somebody who speaks to `host` of this machine speaks to the address that we listen on."""
    listening = "127.0.0.1" if settings.host == "localhost" else settings.host
    try:
        is_loopback = ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    return host == listening or (listening in _WILDCARDS and (is_loopback or host in _WILDCARDS or host in own))
