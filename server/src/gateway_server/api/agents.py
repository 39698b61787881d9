"""Agents over HTTP: the registry, and requests that pass through to them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Literal
from urllib.parse import unquote, unquote_to_bytes

from fastapi import APIRouter, Depends
from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from gateway_server.api.asking import parse_duration
from gateway_server.api.auth import Identify
from gateway_server.api.bodies import WholeBody
from gateway_server.api.passing import PassedOn
from gateway_server.api.paths import REST
from gateway_server.calls.agent_health import Health
from gateway_server.calls.agent_wire import Agent
from gateway_server.calls.agent_wishes import Wish
from gateway_server.calls.agents import AgentReply, AgentRequest, Agents, not_found
from gateway_server.errors import Invalid
from gateway_server.identity import access
from gateway_server.models import Principal, rfc3339_at

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class NewAgent(BaseModel):
    """An agent to be registered, or what is to change of one that is."""

    id: str
    url: str = ""
    timeout: float | None = None
    """Seconds that a whole exchange may take."""
    health_path: str | None = None
    """A path that answers with 2xx while the agent is well."""
    check: bool = True
    """Whether to ask first if anything answers there."""


class HealthAnswer(BaseModel):
    """What an agent answered when it was asked."""

    status: Literal["healthy", "unhealthy", "unreachable", "unknown"]
    checked_at: str | None
    latency_ms: float | None
    message: str


class AgentAnswer(BaseModel):
    """A registered agent. Where it is, is shown to those who may change it."""

    id: str
    url: str | None
    owner: str
    created_at: str
    timeout: float | None
    health_path: str | None


class AgentWithHealth(AgentAnswer):
    """The same with how it is."""

    health: HealthAnswer


class AgentList(BaseModel):
    """Every agent."""

    agents: list[AgentWithHealth]


def routes(*, agents: Agents, identify: Identify) -> APIRouter:
    """The routes below /v1/agents."""
    router = APIRouter(prefix="/v1/agents", tags=["agents"], route_class=WholeBody)
    _add_registry(router, agents, identify)
    caller = Depends(identify)

    async def call_agent(request: Request, agent_id: str, principal: Principal = caller) -> Response:
        """Calls an agent as the user of the key: method, path, query, body and answer pass through."""
        access.may_call_agents(principal)
        _refuse_upgrade(request)
        seconds = parse_duration(request.headers.get("cancel-after"))
        try:
            return PassedOn(await _exchange(agents, agent_id, principal, request, seconds))
        except ClientDisconnect:
            return Response(status_code=400)

    for method in METHODS:
        name = f"call_agent_{method.lower()}"
        router.add_api_route(
            f"/{{agent_id}}/{{path{REST}}}",
            call_agent,
            methods=[method],
            name=name,
            operation_id=name,
            response_class=Response,
            responses={"default": {"description": "Whatever the agent answers, of any type."}},
        )
    return router


def _add_registry(router: APIRouter, agents: Agents, identify: Identify) -> None:
    caller = Depends(identify)

    @router.post("", status_code=201)
    async def add_agent(wanted: NewAgent, principal: Principal = caller) -> AgentAnswer:
        """Registers an agent, or changes what is named of one. Needs the scope publish."""
        wish = Wish(**wanted.model_dump(include={"url", "timeout", "health_path"}, exclude_unset=True))  # type: ignore[typeddict-item]
        return AgentAnswer(**_describe(await agents.add(wanted.id, wish, principal, check=wanted.check), principal))

    @router.get("")
    async def list_agents(principal: Principal = caller) -> AgentList:
        """Every agent, and how it is: asked now, briefly, or a few seconds ago."""
        access.require_person(principal)
        known = await agents.list()
        health = await agents.health_of_all(known)
        return AgentList(agents=[_with_health(agent, health[agent.id], principal) for agent in known])

    @router.get("/{agent_id}")
    async def get_agent(agent_id: str, principal: Principal = caller) -> AgentWithHealth:
        """One agent, and how it is now."""
        access.require_person(principal)
        agent = await agents.find(agent_id)
        return _with_health(agent, await agents.health(agent), principal)

    @router.delete("/{agent_id}", status_code=204)
    async def remove_agent(agent_id: str, principal: Principal = caller) -> None:
        """Forgets an agent. Only its owner or an admin may."""
        await agents.remove(agent_id, principal)


async def _exchange(
    agents: Agents, agent_id: str, principal: Principal, request: Request, seconds: float | None
) -> AgentReply:
    """The agent's answer; a caller who hangs up before it comes ends the request."""
    sent = asyncio.Event()
    has_body = request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
    if not has_body:
        sent.set()
    outgoing = AgentRequest(
        method=request.method,
        target=_target(request, agent_id),
        headers=request.headers.raw,
        body=_body(request, sent) if has_body else None,
        timeout=seconds,
    )
    call = asyncio.create_task(agents.call(agent_id, principal, outgoing))
    gone = asyncio.create_task(_hung_up(request, sent))
    try:
        await asyncio.wait([call, gone], return_when=asyncio.FIRST_COMPLETED)
    finally:
        call.cancel()  # changes nothing if it has ended
        gone.cancel()
        await asyncio.wait([call, gone])
    if call.cancelled():
        raise ClientDisconnect
    return call.result()


async def _body(request: Request, sent: asyncio.Event) -> AsyncIterator[bytes]:
    async for chunk in request.stream():
        if chunk:
            yield chunk
    sent.set()


async def _hung_up(request: Request, sent: asyncio.Event) -> None:
    await sent.wait()
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _target(request: Request, agent_id: str) -> bytes:
    """Path below the agent and query, byte by byte as they came."""
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    name, _, path = raw.partition(b"?")[0].partition(b"/v1/agents/")[2].partition(b"/")
    if unquote_to_bytes(name) != agent_id.encode():  # its slash was encoded, and so belongs to an id
        raise not_found(unquote(name))
    if any(part in (b".", b"..") for part in unquote_to_bytes(path).replace(b"\\", b"/").split(b"/")):
        raise Invalid("The path must not hold . or .. as a part.")
    query: bytes = request.scope["query_string"]
    return path + b"?" + query if query else path


def _refuse_upgrade(request: Request) -> None:
    if request.headers.get("upgrade", "").lower() == "websocket":
        raise Invalid("WebSockets do not pass through the gateway. Stream with server-sent events, or a streamed body.")


def _describe(agent: Agent, principal: Principal) -> dict[str, Any]:
    is_shown = access.may_change(principal, agent.owner)
    return {
        "id": agent.id,
        "url": agent.url if is_shown else None,
        "owner": agent.owner,
        "created_at": rfc3339_at(agent.created_at),
        "timeout": agent.timeout,
        "health_path": agent.health_path if is_shown else None,
    }


def _with_health(agent: Agent, health: Health, principal: Principal) -> AgentWithHealth:
    told = HealthAnswer(
        status=health.status,  # type: ignore[arg-type]
        checked_at=None if health.checked_at is None else rfc3339_at(health.checked_at),
        latency_ms=None if health.latency is None else round(health.latency * 1000, 1),
        message=health.message,
    )
    return AgentWithHealth(**_describe(agent, principal), health=told)
