"""The events of a job as a stream that can be resumed: served before the web framework, as many may read at once."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

from gateway_server.api.asgi import Receive, Send
from gateway_server.api.asking import read_headers
from gateway_server.api.auth import Authenticator
from gateway_server.api.faults import send_fault
from gateway_server.api.sse import HEADERS
from gateway_server.calls.events import Events
from gateway_server.calls.jobs import Jobs
from gateway_server.errors import GatewayFault, Invalid, MethodNotAllowed, Problem, Unauthenticated

PATH = re.compile(r"/v1/jobs/([^/]+)/events\Z")
KEEP_ALIVE = b": keep-alive\n\n"
_NUMBER = re.compile(r"\d{1,9}\Z")


class JobEvents:
    """An ASGI application for the paths of `PATH`, method GET."""

    def __init__(self, *, authenticator: Authenticator, jobs: Jobs, events: Events) -> None:
        self._authenticator = authenticator
        self._jobs = jobs
        self._events = events

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """One reader."""
        found = PATH.match(scope["path"])
        assert found is not None
        job_id = found[1]
        try:
            if scope["method"] != "GET":
                raise MethodNotAllowed(scope["path"], scope["method"], ["GET"])
            headers = read_headers(scope)
            principal = await self._authenticator.identify(headers, scope.get("client"))
            await self._jobs.find(job_id, principal)
            after = _last_event(headers.get("last-event-id"))
        except GatewayFault as fault:
            await send_fault(fault, send)
            return
        still = partial(self._authenticator.check_still, principal)
        del headers, found  # a reader may stay for long, and there may be thousands
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await _send_all(self._events.follow(job_id, after), still, receive, send)


async def _send_all(frames: AsyncIterator[bytes], check: Callable[[], None], receive: Receive, send: Send) -> None:
    """Sends what comes, until there is no more of it, the reader has left, or may not read on: then its next request
    is told why."""
    reader = asyncio.current_task()
    assert reader is not None
    gone = asyncio.create_task(_left(receive, reader))
    try:
        async for chunk in frames:
            check()
            await send({"type": "http.response.body", "body": chunk or KEEP_ALIVE, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    except Unauthenticated:
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    except asyncio.CancelledError:
        if not gone.done():
            raise
        reader.uncancel()
    finally:
        gone.cancel()


async def _left(receive: Receive, reader: asyncio.Task[Any]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    reader.cancel()


def _last_event(text: str | None) -> int:
    """The number of the last event that the reader has seen.

    Raises:
        Invalid: it is none.
    """
    if text is None or text == "":
        return 0
    if not _NUMBER.match(text):
        problem = Problem("/headers/Last-Event-ID", "must be the number of an event of this job")
        raise Invalid(f"The header Last-Event-ID {problem.message}.", [problem])
    return int(text)
