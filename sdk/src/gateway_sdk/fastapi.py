"""For agents written with FastAPI: the client of the caller, as a dependency.

Example:
    from typing import Annotated

    from fastapi import Depends, FastAPI
    from gateway_sdk import GatewayClient
    from gateway_sdk.fastapi import gateway_client

    app = FastAPI()

    @app.post("/greet")
    def greet(client: Annotated[GatewayClient, Depends(gateway_client)]) -> dict:
        return client.run("translator", "1.0.0", "translate", {"text": "Hello"}).get_function_result()
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Header

from ._async_client import AsyncGatewayClient
from ._client import GatewayClient

__all__ = ["async_gateway_client", "gateway_client"]


def gateway_client(x_internal_token: Annotated[str, Header()]) -> GatewayClient:
    """A client that acts for whoever called this agent; the gateway puts the header into every request.

    A request without it, one that has not come through the gateway, is refused with 422.
    """
    return GatewayClient(internal_token=x_internal_token)


def async_gateway_client(x_internal_token: Annotated[str, Header()]) -> AsyncGatewayClient:
    """The same for `async def` endpoints."""
    return AsyncGatewayClient(internal_token=x_internal_token)
