"""Agents: web applications that the gateway calls in the name of a user, and which call prefabs in turn."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import httpx
from sqlalchemy import Connection, select

from gateway_server.errors import (
    AgentNotFound,
    DeadlineExceeded,
    Invalid,
    PermissionDenied,
    Problem,
    ServiceUnavailable,
)
from gateway_server.identity import access
from gateway_server.identity.tokens import Tokens
from gateway_server.models import Principal, Scope
from gateway_server.settings import Settings
from gateway_server.store import schema
from gateway_server.store.database import Database

CONNECT_TIMEOUT = 10.0
CONNECTIONS = 1000
TOKEN_GRACE = 60.0
"""Seconds that an agent's token outlives the call, for what the agent has to finish."""
MOST_DEPTH = 32
"""Agents that may call one another in one chain."""
Header = tuple[bytes, bytes]
_HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization"}
    | {b"te", b"trailer", b"transfer-encoding", b"upgrade", b"expect", b"date"}  # our own server writes a date, too
)
_IDENTITY = frozenset(
    {b"x-internal-token", b"authorization", b"x-api-key", b"cookie", b"host", b"forwarded", b"x-real-ip", b"via"}
)
_table = schema.agents


@dataclass(frozen=True, kw_only=True)
class Agent:
    """A registered agent."""

    id: str
    url: str
    owner: str
    created_at: float


@dataclass(frozen=True, kw_only=True)
class AgentRequest:
    """A request on its way to an agent."""

    method: str
    target: bytes
    """Path below the agent's address and query, as they came."""
    headers: Iterable[Header]
    body: AsyncIterator[bytes] | None
    timeout: float | None
    """Seconds for the whole exchange; None is the gateway's limit."""


@dataclass(frozen=True, kw_only=True)
class AgentReply:
    """What an agent answers. The body must be read to its end or closed."""

    status: int
    headers: list[Header]
    body: AsyncIterator[bytes]


class Agents:
    """Knows the agents and carries requests to them. Start it before, and close it after use."""

    def __init__(self, database: Database, tokens: Tokens, settings: Settings) -> None:
        self._database = database
        self._tokens = tokens
        self._settings = settings
        self._transport: httpx.AsyncHTTPTransport | None = None

    async def start(self) -> None:
        """Opens the connections that all calls share."""
        limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=100, keepalive_expiry=15)
        # The transport alone: a client would follow cookies and proxies of the environment.
        self._transport = httpx.AsyncHTTPTransport(limits=limits, trust_env=False, retries=1)

    async def close(self) -> None:
        """Closes them."""
        if self._transport is not None:
            await self._transport.aclose()
            self._transport = None

    async def add(self, agent_id: str, url: str, principal: Principal) -> Agent:
        """Registers an agent, or gives one of the caller's own a new address.

        Raises:
            Invalid: the id or the address cannot be one.
            PermissionDenied: the caller may not, or the id belongs to somebody else.
        """
        access.require_scope(principal, Scope.PUBLISH)
        access.check_name(agent_id, "Agent", "/id")
        address = checked_url(url)

        def work(connection: Connection) -> Agent:
            row = connection.execute(select(_table).where(_table.c.id == agent_id)).first()
            if row is None:
                agent = Agent(id=agent_id, url=address, owner=principal.user, created_at=time.time())
                connection.execute(_table.insert().values(vars(agent)))
                return agent
            if not access.may_change(principal, row.owner):
                raise PermissionDenied(f"The agent id {agent_id} belongs to somebody else.")
            connection.execute(_table.update().where(_table.c.id == agent_id).values(url=address))
            return replace(_from_row(row), url=address)

        return await self._database.write(work)

    async def list(self) -> list[Agent]:
        """Every agent, by id."""
        rows = await self._database.read(lambda c: c.execute(select(_table).order_by(_table.c.id)).all())
        return [_from_row(row) for row in rows]

    async def find(self, agent_id: str) -> Agent:
        """One agent.

        Raises:
            AgentNotFound: there is none of that id.
        """
        wanted = select(_table).where(_table.c.id == agent_id)
        row = await self._database.read(lambda c: c.execute(wanted).first())
        if row is None:
            raise AgentNotFound(
                f"There is no agent {agent_id[:80]}. Add it with: gateway agent add {agent_id[:80]} URL"
            )
        return _from_row(row)

    async def remove(self, agent_id: str, principal: Principal) -> None:
        """Forgets an agent.

        Raises:
            AgentNotFound: there is none of that id.
            PermissionDenied: it is somebody else's.
        """
        access.require_scope(principal, Scope.PUBLISH)
        agent = await self.find(agent_id)
        if not access.may_change(principal, agent.owner):
            raise PermissionDenied(f"The agent {agent_id} belongs to somebody else.")
        await self._database.write(lambda c: c.execute(_table.delete().where(_table.c.id == agent_id)))

    async def call(self, agent_id: str, principal: Principal, request: AgentRequest) -> AgentReply:
        """Carries a request to an agent, in the name of the caller.

        Raises:
            AgentNotFound: there is none of that id.
            ServiceUnavailable: it cannot be reached, or broke off.
            DeadlineExceeded: it did not begin to answer in time.
        """
        access.require_person(principal)
        if principal.depth >= MOST_DEPTH:
            raise Invalid(f"More than {MOST_DEPTH} agents call one another in a chain.")
        agent = await self.find(agent_id)
        now = time.time()
        limits = (request.timeout, self._settings.call_timeout, principal.deadline and principal.deadline - now)
        deadline = now + min(limit for limit in limits if limit is not None)
        identity = replace(principal, agent=agent_id, depth=principal.depth + 1, deadline=deadline)
        token = self._tokens.mint(identity, expires_at=deadline + TOKEN_GRACE)
        ends = asyncio.get_running_loop().time() + deadline - now
        with _translated(agent_id):
            async with asyncio.timeout_at(ends):
                response = await self._send(agent, token, request)
        received = response.headers.raw
        return AgentReply(
            status=response.status_code,
            headers=[
                header for header in received if not is_hop_by_hop(header, received) and header[0].lower() != b"date"
            ],
            body=_relayed(response, agent_id, ends),
        )

    async def _send(self, agent: Agent, token: str, request: AgentRequest) -> httpx.Response:
        assert self._transport is not None
        base = urlsplit(agent.url)
        headers = [header for header in request.headers if not is_identity(header)]
        headers = [header for header in headers if not is_hop_by_hop(header, headers)]
        headers += [(b"host", base.netloc.encode()), (b"x-internal-token", token.encode())]
        target = base.path.rstrip("/").encode() + b"/" + request.target
        timeout = {"connect": CONNECT_TIMEOUT, "pool": CONNECT_TIMEOUT, "read": None, "write": None}
        outgoing = httpx.Request(
            request.method,
            f"{base.scheme}://{base.netloc}",
            headers=headers,
            content=request.body,
            extensions={"timeout": timeout, "target": target},  # the target as it came, not as httpx would write it
        )
        return await self._transport.handle_async_request(outgoing)


def checked_url(url: str) -> str:
    """The address of an agent, if it can be one.

    Raises:
        Invalid: it cannot.
    """
    try:
        parts = urlsplit(url)
        is_right = bool(parts.scheme in ("http", "https") and parts.hostname and parts.port != 0)
    except ValueError:
        is_right = False
    if not is_right or not url.isascii() or not url.isprintable() or " " in url or len(url) > 2000:
        raise _refusal("must be an address such as http://127.0.0.1:8080")
    if parts.username is not None or parts.password is not None:
        raise _refusal("must not hold a name or password")
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise _refusal("must not hold a query or a fragment")
    return url.rstrip("/")


def is_hop_by_hop(header: Header, among: Iterable[Header]) -> bool:
    """Whether a header concerns one connection only, by itself or because `Connection` among the others names it."""
    name = header[0].lower()
    if name in _HOP_BY_HOP:
        return True
    named = (value for other, value in among if other.lower() == b"connection")
    return any(name == part.strip().lower() for value in named for part in value.split(b","))


def is_identity(header: Header) -> bool:
    """Whether a header says who calls, also in the spelling that some servers take for the same."""
    name = header[0].lower().replace(b"_", b"-")
    return name in _IDENTITY or name.startswith(b"x-forwarded-")


def _refusal(message: str) -> Invalid:
    return Invalid(f"The address of an agent {message}.", [Problem("/url", message)])


@contextmanager
def _translated(agent_id: str) -> Iterator[None]:
    """Turns what the transport raises into faults that name the agent."""
    try:
        yield
    except TimeoutError as error:
        raise DeadlineExceeded(f"The agent {agent_id} did not answer in time.") from error
    except httpx.TransportError as error:
        raise ServiceUnavailable(f"The agent {agent_id} cannot be reached ({type(error).__name__}).") from error


async def _relayed(response: httpx.Response, agent_id: str, ends: float) -> AsyncIterator[bytes]:
    """The body as it arrives; the connection is let go of on every way out."""
    stream = response.stream
    assert isinstance(stream, httpx.AsyncByteStream)
    try:
        chunks = aiter(stream)
        with _translated(agent_id):
            while True:
                async with asyncio.timeout_at(ends):
                    chunk = await anext(chunks, None)
                if chunk is None:
                    return
                yield chunk
    finally:
        await stream.aclose()


def _from_row(row) -> Agent:  # type: ignore[no-untyped-def]
    return Agent(id=row.id, url=row.url, owner=row.owner, created_at=row.created_at)
