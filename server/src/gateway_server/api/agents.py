"""Agents over HTTP: the registry, and requests that pass through to them."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from urllib.parse import unquote_to_bytes

from fastapi import APIRouter, Depends
from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from gateway_server.api.auth import Identify
from gateway_server.api.calls import parse_duration
from gateway_server.calls.agents import Agent, AgentReply, AgentRequest, Agents
from gateway_server.errors import Invalid
from gateway_server.identity import access
from gateway_server.models import Principal, rfc3339

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class NewAgent(BaseModel):
    """An agent to be registered."""

    id: str
    url: str


class AgentAnswer(BaseModel):
    """A registered agent. The address is shown to those who may change it."""

    id: str
    url: str | None
    owner: str
    created_at: str


class AgentList(BaseModel):
    """Every agent."""

    agents: list[AgentAnswer]


def routes(*, agents: Agents, identify: Identify) -> APIRouter:
    """The routes below /v1/agents."""
    router = APIRouter(prefix="/v1/agents", tags=["agents"])
    _add_registry(router, agents, identify)
    caller = Depends(identify)

    async def call_agent(request: Request, agent_id: str, principal: Principal = caller) -> Response:
        """Calls an agent as the user of the key: method, path, query, body and answer pass through."""
        access.require_person(principal)
        seconds = parse_duration(request.headers.get("cancel-after"))
        try:
            reply = await _exchange(agents, agent_id, principal, request, seconds)
        except ClientDisconnect:
            return Response(status_code=400)
        response = StreamingResponse(reply.body, reply.status)
        response.raw_headers = reply.headers
        return response

    for method in METHODS:
        name = f"call_agent_{method.lower()}"
        router.add_api_route(
            "/{agent_id}/{path:path}",
            call_agent,
            methods=[method],
            name=name,
            operation_id=name,
            response_class=Response,
        )
    return router


def _add_registry(router: APIRouter, agents: Agents, identify: Identify) -> None:
    caller = Depends(identify)

    @router.post("", status_code=201)
    async def add_agent(wanted: NewAgent, principal: Principal = caller) -> AgentAnswer:
        """Registers an agent, or changes its address. Needs the scope publish."""
        return _describe(await agents.add(wanted.id, wanted.url, principal), principal)

    @router.get("")
    async def list_agents(principal: Principal = caller) -> AgentList:
        """Every agent."""
        access.require_person(principal)
        return AgentList(agents=[_describe(agent, principal) for agent in await agents.list()])

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
        target=_target(request),
        headers=request.headers.raw,
        body=_body(request, sent) if has_body else None,
        timeout=seconds,
    )
    call = asyncio.create_task(agents.call(agent_id, principal, outgoing))
    gone = asyncio.create_task(_hung_up(request, sent))
    try:
        await asyncio.wait([call, gone], return_when=asyncio.FIRST_COMPLETED)
        if not call.done():
            raise ClientDisconnect
        return call.result()
    finally:
        call.cancel()
        gone.cancel()
        await asyncio.wait([call, gone])


async def _body(request: Request, sent: asyncio.Event) -> AsyncIterator[bytes]:
    async for chunk in request.stream():
        if chunk:
            yield chunk
    sent.set()


async def _hung_up(request: Request, sent: asyncio.Event) -> None:
    await sent.wait()
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _target(request: Request) -> bytes:
    """Path below the agent and query, byte by byte as they came."""
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    path = raw.partition(b"?")[0].partition(b"/v1/agents/")[2].partition(b"/")[2]
    if any(part in (b".", b"..") for part in unquote_to_bytes(path).replace(b"\\", b"/").split(b"/")):
        raise Invalid("The path must not hold . or .. as a part.")
    query: bytes = request.scope["query_string"]
    return path + b"?" + query if query else path


def _describe(agent: Agent, principal: Principal) -> AgentAnswer:
    is_shown = access.may_change(principal, agent.owner)
    created_at = rfc3339(datetime.fromtimestamp(agent.created_at, UTC))
    return AgentAnswer(id=agent.id, url=agent.url if is_shown else None, owner=agent.owner, created_at=created_at)
