"""Agents: web applications that the gateway calls in the name of a user, and which call prefabs in turn."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace

import httpx
from sqlalchemy import Connection, Row, select

from gateway_server.calls import trees
from gateway_server.calls.agent_health import HEALTHY, UNREACHABLE, Health, HealthChecks, leads_to_gateway
from gateway_server.calls.agent_wire import Agent, Header, Unreached, Wire, answered, is_identity, passed_on, translated
from gateway_server.calls.agent_wishes import Wish, checked, refusal
from gateway_server.calls.jobs import new_id
from gateway_server.errors import (
    AgentNotFound,
    DeadlineExceeded,
    Invalid,
    PermissionDenied,
    Problem,
    ServiceUnavailable,
)
from gateway_server.identity import access, audit
from gateway_server.identity.tokens import Tokens
from gateway_server.identity.users import Users
from gateway_server.models import Principal, Scope
from gateway_server.settings import Settings
from gateway_server.store import schema
from gateway_server.store.database import Database

TOKEN_GRACE = 60.0
"""Seconds that an agent's token outlives the call, for what the agent has to finish."""
_table = schema.agents


@dataclass(frozen=True, kw_only=True)
class AgentRequest:
    """A request on its way to an agent."""

    method: str
    target: bytes
    """Path below the agent's address and query, as they came."""
    headers: Iterable[Header]
    body: AsyncIterator[bytes] | None
    timeout: float | None
    """Seconds that the caller gives to the whole exchange."""


@dataclass(frozen=True, kw_only=True)
class AgentReply:
    """What an agent answers. It must be closed, read or not."""

    status: int
    headers: list[Header]
    body: AsyncIterator[bytes]
    """Raises ServiceUnavailable if the agent breaks off, and DeadlineExceeded once time is over."""
    close: Callable[[], Awaitable[None]]


class Agents:
    """Knows the agents and carries requests to them. Start it before, and close it after use."""

    def __init__(self, database: Database, users: Users, tokens: Tokens, settings: Settings) -> None:
        self._database = database
        self._users = users
        self._tokens = tokens
        self._settings = settings
        self._wire = Wire()
        self._checks = HealthChecks(self._wire, settings)

    async def start(self) -> None:
        """Opens the connections that all calls share."""
        await self._wire.start()

    async def close(self) -> None:
        """Closes them."""
        await self._wire.close()

    async def add(self, agent_id: str, wish: Wish, principal: Principal, *, check: bool = True) -> Agent:
        """Registers an agent, or changes one of the caller's own. `check` asks first whether anything answers there.

        Raises:
            Invalid: the id or the address cannot be one, nothing answers there, or the gateway itself does.
            PermissionDenied: the caller may not, or the id belongs to somebody else.
        """
        access.require_operator(principal, Scope.PUBLISH)
        access.check_name(agent_id, "Agent", "/id")
        wish = checked(wish)
        planned = await self._database.read(lambda c: _planned(c, agent_id, wish, principal))
        if leads_to_gateway(planned.url, self._settings):
            raise _own_address(planned)
        if check and wish.keys() & {"url", "health_path"}:
            _refuse_unless_well(planned, await self._checks.check(planned))
        self._users.check_principal(principal)  # to look at the address takes its time
        return await self._database.write(lambda c: _write(c, agent_id, wish, principal))

    async def list(self) -> list[Agent]:
        """Every agent, by id."""
        rows = await self._database.read(lambda c: c.execute(select(_table).order_by(_table.c.id)).all())
        return [_from_row(row) for row in rows]

    async def find(self, agent_id: str) -> Agent:
        """One agent.

        Raises:
            AgentNotFound: there is none of that id.
        """
        agent = await self._database.read(lambda c: _read(c, agent_id))
        if agent is None:
            raise not_found(agent_id)
        return agent

    async def health(self, agent: Agent) -> Health:
        """How an agent is now."""
        return await self._checks.check(agent)

    async def health_of_all(self, agents: Sequence[Agent]) -> dict[str, Health]:
        """How agents are, by id: now, or a few seconds ago."""
        return await self._checks.check_all(agents)

    async def remove(self, agent_id: str, principal: Principal) -> None:
        """Forgets an agent.

        Raises:
            AgentNotFound: there is none of that id.
            PermissionDenied: it is somebody else's.
        """
        access.require_operator(principal, Scope.PUBLISH)
        await self._database.write(lambda c: _delete(c, agent_id, principal))
        self._checks.forget(agent_id)

    async def call(self, agent_id: str, principal: Principal, request: AgentRequest) -> AgentReply:
        """Carries a request to an agent, in the name of the caller.

        Raises:
            AgentNotFound: there is none of that id.
            QuotaExceeded: agents and functions have called each other too deep or too often.
            ServiceUnavailable: it cannot be reached, or broke off.
            DeadlineExceeded: it did not begin to answer in time.
        """
        access.may_call_agents(principal)
        trees.check_depth(principal.depth + 1, self._settings.nesting_limit)
        agent = await self.find(agent_id)
        now = time.time()
        if principal.tree_id is not None:
            most = self._settings.tree_limit
            await self._database.write(lambda c: trees.grow(c, principal, most, now), durable=False)
        seconds, whose = self._limit(agent, principal, request, now)
        ends = asyncio.get_running_loop().time() + seconds
        tree_id = principal.tree_id or new_id()
        depth = principal.depth + 1
        identity = replace(principal, agent=agent_id, tree_id=tree_id, depth=depth, deadline=now + seconds)
        token = self._tokens.mint(identity, expires_at=now + seconds + TOKEN_GRACE)
        headers = passed_on(header for header in request.headers if not is_identity(header))
        headers.append((b"x-internal-token", token.encode()))
        late = DeadlineExceeded(f"The agent {agent_id} did not end its answer within {max(seconds, 0):g} s, {whose}.")
        try:
            async with asyncio.timeout_at(ends):
                response = await self._wire.send(agent, request.method, request.target, headers, request.body)
        except TimeoutError as error:
            raise late from error
        except Unreached as error:
            self._checks.note_unreachable(agent, str(error))
            raise _unavailable(agent, principal, str(error)) from error
        if not 200 <= response.status_code < 600:
            await response.aclose()
            message = f"The agent {agent_id} answered with the status {response.status_code}, which no answer can have."
            raise ServiceUnavailable(message)
        return AgentReply(
            status=response.status_code,
            headers=answered(response),
            body=self._while_allowed(
                principal, _relayed(response, ends, late, lambda reason: _unavailable(agent, principal, reason))
            ),
            close=response.aclose,
        )

    async def _while_allowed(self, principal: Principal, body: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
        """A body, as long as its reader has not been disabled or deleted, nor its key revoked."""
        async with aclosing(body):
            async for chunk in body:
                self._tokens.check(principal)
                yield chunk

    def _limit(self, agent: Agent, principal: Principal, request: AgentRequest, now: float) -> tuple[float, str]:
        """Seconds for an exchange, and in words whose limit it is that ends first."""
        limits = [(self._settings.call_timeout, "the limit of this gateway")]
        if agent.timeout is not None:
            limits.append((agent.timeout, "the timeout of this agent"))
        if request.timeout is not None:
            limits.append((request.timeout, "as its caller asked"))
        if principal.deadline is not None:
            limits.append((principal.deadline - now, "what was left to the call that it belongs to"))
        return min(limits)


async def _relayed(
    response: httpx.Response, ends: float, late: DeadlineExceeded, broken: Callable[[str], ServiceUnavailable]
) -> AsyncGenerator[bytes, None]:
    """The body as it arrives."""
    stream = response.stream
    assert isinstance(stream, httpx.AsyncByteStream)
    chunks = aiter(stream)
    try:
        with translated():
            while True:
                async with asyncio.timeout_at(ends):
                    chunk = await anext(chunks, None)
                if chunk is None:
                    return
                yield chunk
    except TimeoutError as error:
        raise late from error
    except Unreached as error:
        raise broken(str(error)) from error


def _planned(connection: Connection, agent_id: str, wish: Wish, principal: Principal) -> Agent:
    """The agent as it will be."""
    agent = _read(connection, agent_id)
    if agent is None:
        if "url" not in wish:
            raise refusal("url", f"The address of the agent {agent_id}", "is needed, as there is no such agent yet")
        return Agent(id=agent_id, owner=principal.user, created_at=time.time(), **wish)
    if not access.may_change(principal, agent.owner):
        raise PermissionDenied(f"The agent id {agent_id} belongs to somebody else. Choose another id.")
    return replace(agent, **wish)


def _write(connection: Connection, agent_id: str, wish: Wish, principal: Principal) -> Agent:
    agent = _planned(connection, agent_id, wish, principal)
    connection.execute(_table.delete().where(_table.c.id == agent_id))
    connection.execute(_table.insert().values(asdict(agent)))
    audit.record(connection, principal, "agent.add", agent_id, url=agent.url)
    return agent


def _delete(connection: Connection, agent_id: str, principal: Principal) -> None:
    agent = _read(connection, agent_id)
    if agent is None:
        raise not_found(agent_id)
    if not access.may_change(principal, agent.owner):
        raise PermissionDenied(f"The agent {agent_id} belongs to somebody else.")
    connection.execute(_table.delete().where(_table.c.id == agent_id))
    audit.record(connection, principal, "agent.remove", agent_id)


def _read(connection: Connection, agent_id: str) -> Agent | None:
    row = connection.execute(select(_table).where(_table.c.id == agent_id)).first()
    return None if row is None else _from_row(row)


def _from_row(row: Row) -> Agent:  # type: ignore[type-arg]
    return Agent(**row._mapping)


def _refuse_unless_well(agent: Agent, health: Health) -> None:
    if health.is_gateway:
        raise _own_address(agent)
    place = f"{agent.url}{agent.health_path or '/'}"
    if health.status == UNREACHABLE:
        message = f"Nothing can be reached at {place}: {health.message}. Start the agent first"
        raise _refused_check(message, "/url")
    if health.status != HEALTHY:
        raise _refused_check(
            f"{place} says that the agent is not well: {health.message}. Mend it first", "/health_path"
        )


def _refused_check(message: str, pointer: str) -> Invalid:
    message += ', or register it unseen with --no-check (over HTTP: "check": false).'
    return Invalid(message, [Problem(pointer, message)])


def _own_address(agent: Agent) -> Invalid:
    message = f"{agent.url} leads back to this gateway; give the address at which the agent itself listens."
    return Invalid(message, [Problem("/url", message)])


def not_found(agent_id: str) -> AgentNotFound:
    """The refusal where there is no agent of that id."""
    return AgentNotFound(f"There is no agent {agent_id[:80]}.")


def _unavailable(agent: Agent, principal: Principal, reason: str) -> ServiceUnavailable:
    """The address is told to those who may change it."""
    if access.may_change(principal, agent.owner):
        advice = f"Start it, or register its new address with: gateway agent add {agent.id} URL"
        return ServiceUnavailable(f"The agent {agent.id} at {agent.url} cannot be reached: {reason}. {advice}")
    return ServiceUnavailable(f"The agent {agent.id} cannot be reached: {reason}. Tell its owner, {agent.owner}.")
