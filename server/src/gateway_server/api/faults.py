"""A fault as an HTTP answer; the same on every route."""

import json
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPMethod
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match

from gateway_server.api.asgi import JSON, Application, Headers, Receive, Reply, Send, send_reply
from gateway_server.errors import GatewayFault, InternalError, Invalid, MethodNotAllowed, NotFound, Problem

logger = logging.getLogger("gateway")
NOT_READ = "The body was not read as JSON: send it with Content-Type: application/json."


def answer(fault: GatewayFault, **members: object) -> tuple[int, Headers, bytes]:
    """Status, headers and body; `members` join the detail."""
    body = _as_json({"detail": {**fault.detail(), **members}})
    headers = list(JSON)
    if fault.retry_after is not None:
        headers.append((b"retry-after", str(math.ceil(fault.retry_after)).encode()))
    if fault.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(fault, MethodNotAllowed):
        headers.append((b"allow", fault.allowed.encode()))
    return fault.status, headers, body


def _as_json(value: object) -> bytes:
    try:
        return orjson.dumps(value, default=str)
    except TypeError:  # it repeats what a request said, in whose JSON half of a surrogate pair may stand
        return json.dumps(value, default=str).encode()


async def send_fault(fault: GatewayFault, send: Send) -> None:
    """Answers with a fault where no framework does."""
    await send_reply(Reply(*answer(fault)), send)


async def on_fault(_request: Request, error: Exception) -> Response:
    """The framework's handler of faults."""
    assert isinstance(error, GatewayFault)
    status, headers, body = answer(error)
    return Response(body, status, {name.decode(): value.decode() for name, value in headers})


async def on_invalid(request: Request, error: Exception) -> Response:
    """The framework's handler of requests that do not have the form of their route."""
    assert isinstance(error, RequestValidationError)
    if isinstance(error.__cause__, ValueError) and (refusal := await _refusal_of_caller(request)):
        return await on_fault(request, refusal)
    if isinstance(error.body, bytes):  # whatever is wrong with it follows from that
        return await on_fault(request, Invalid(NOT_READ, [Problem("/body", NOT_READ)]))
    problems = [Problem("/" + "/".join(map(str, told["loc"])), told["msg"]) for told in error.errors()]
    shown = "; ".join(f"{problem.pointer} {problem.message}" for problem in problems[:5])
    return await on_fault(request, Invalid(f"The request is not valid: {shown}.", problems))


async def _refusal_of_caller(request: Request) -> GatewayFault | None:
    """What comes before the fault of a body that is no JSON, which the framework reads before it asks who calls."""
    try:
        await request.app.state.identify(request)
    except GatewayFault as fault:
        return fault
    return None


async def on_http_error(request: Request, error: Exception) -> Response:
    """The framework's handler of what no route takes."""
    assert isinstance(error, HTTPException)
    fault: GatewayFault
    if error.status_code == 404:
        fault = NotFound(f"There is no {request.url.path}; /docs lists what there is.")
    elif error.status_code == 405:
        fault = MethodNotAllowed(request.url.path, request.method, _allowed(request))
    else:  # no UTF-8, too deep, or a number of too many digits
        fault = await _refusal_of_caller(request) or Invalid(str(error.detail))
    return await on_fault(request, fault)


def _allowed(request: Request) -> set[str]:
    """The methods of all routes of an address; the framework itself names those of the first."""
    routes: Sequence[BaseRoute] = request.app.routes
    scopes = ({**request.scope, "method": method} for method in HTTPMethod)
    return {asked["method"] for asked in scopes if any(route.matches(asked)[0] is Match.FULL for route in routes)}


async def on_mistake(request: Request, error: Exception) -> Response:
    """The framework's handler of everything that nobody thought of: told in the log, not to the caller."""
    logger.error("unexpected error on %s %s", request.method, request.url.path, exc_info=error)
    return await on_fault(request, unexpected())


async def guard(application: Application, scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Lets an application answer that knows no framework; what nobody thought of becomes an answer of the one form, as
    long as no other has begun."""
    has_begun = False

    async def telling(message: dict[str, Any]) -> None:
        nonlocal has_begun
        has_begun = True
        await send(message)

    try:
        await application(scope, receive, telling)
    except Exception as error:
        logger.error("unexpected error on %s %s", scope["method"], scope["path"], exc_info=error)
        if has_begun:
            raise  # the server hangs up
        await send_fault(unexpected(), send)


def unexpected() -> InternalError:
    """What callers hear of a mistake of ours."""
    return InternalError("The gateway made a mistake; its log tells more.")


def install(web: FastAPI, identify: Callable[[Request], Awaitable[object]]) -> None:
    """Makes every error of a route an answer of the one form; `identify` finds out who calls."""
    web.state.identify = identify
    web.add_exception_handler(GatewayFault, on_fault)
    web.add_exception_handler(RequestValidationError, on_invalid)
    web.add_exception_handler(HTTPException, on_http_error)
    web.add_exception_handler(Exception, on_mistake)
