"""The doors of functions without a network: what they may ask of the gateway, and that they are always asked who they
are."""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from gateway_server.api import faults
from gateway_server.api.asgi import Receive, Reply, Send, send_reply
from gateway_server.api.calls import PATHS
from gateway_server.errors import PermissionDenied

is_inside: ContextVar[bool] = ContextVar("is_inside", default=False)
"""Whether the request being answered came through a door: then its sender reaches no address but the gateway's own."""
_OPEN = ("/internal/files/", "/v1/files/uploads", "/v1/jobs", "/objects/", "/health")
_REFUSAL = PermissionDenied("A prefab without a network may call prefabs and use the files of its call, nothing else.")
Application = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]


class Doors:
    """An ASGI application: the gateway as such functions see it."""

    def __init__(self, gateway: Application) -> None:
        self._gateway = gateway

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """ASGI. The address of the sender is taken away, for it is one of another network: nobody trusts none."""
        if scope["path"] not in PATHS and not scope["path"].startswith(_OPEN):
            await send_reply(Reply(*faults.answer(_REFUSAL)), send)
            return
        is_inside.set(True)
        await self._gateway({**scope, "client": None}, receive, send)
