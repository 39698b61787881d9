"""The answer of an agent on its way to the caller."""

import asyncio

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway_server.api.faults import logger
from gateway_server.calls.agents import AgentReply
from gateway_server.errors import GatewayFault


class PassedOn(Response):
    """Sends every piece as it comes. The agent's connection is let go of on every way out, the caller's leaving too."""

    def __init__(self, reply: AgentReply) -> None:
        super().__init__(status_code=reply.status)
        self.raw_headers = reply.headers
        self._reply = reply

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        sending = asyncio.create_task(self._send(send))
        gone = asyncio.create_task(_hung_up(receive))
        try:
            await asyncio.wait([sending, gone], return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        except GatewayFault as fault:
            logger.warning("%s %s was cut: %s", scope["method"], scope["path"], fault.message)
            # An answer that has begun can only be cut off, so that it does not look whole; the server does that.
            raise asyncio.CancelledError from fault
        finally:
            sending.cancel()
            gone.cancel()
            await asyncio.wait([sending, gone])
            await self._reply.close()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for chunk in self._reply.body:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
