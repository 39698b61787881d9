"""Call prefabs through the agent-builder gateway.

Example:
    from gateway_sdk import GatewayClient

    client = GatewayClient(internal_token=token)
    result = client.run("translator", "1.0.0", "translate", {"text": "Hello", "target": "zh"})
    if result.is_success():
        print(result.get_function_result())
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._client import GatewayClient
from ._stream import EventStream
from .exceptions import (
    AgentContextRequiredError,
    AgentNotFoundError,
    AuthenticationError,
    ConflictError,
    ConnectionFailedError,
    DeadlineExceededError,
    GatewayError,
    InternalServerError,
    JobNotFoundError,
    LocalFileError,
    MissingSecretError,
    OverloadedError,
    PermissionDeniedError,
    PrefabNotFoundError,
    QuotaExceededError,
    RemoteFileNotFoundError,
    RuntimeCrashedError,
    ServiceUnavailableError,
    TransferError,
    ValidationError,
)
from .models import BatchResult, CallStatus, PrefabCall, PrefabResult, StoredFile, StreamEvent, StreamEventType

if TYPE_CHECKING:
    from ._async_client import AsyncGatewayClient
    from ._async_stream import AsyncEventStream

__version__ = "1.1.0"

__all__ = [
    "AgentContextRequiredError",
    "AgentNotFoundError",
    "AsyncEventStream",
    "AsyncGatewayClient",
    "AuthenticationError",
    "BatchResult",
    "CallStatus",
    "ConflictError",
    "ConnectionFailedError",
    "DeadlineExceededError",
    "EventStream",
    "GatewayClient",
    "GatewayError",
    "InternalServerError",
    "JobNotFoundError",
    "LocalFileError",
    "MissingSecretError",
    "OverloadedError",
    "PermissionDeniedError",
    "PrefabCall",
    "PrefabNotFoundError",
    "PrefabResult",
    "QuotaExceededError",
    "RemoteFileNotFoundError",
    "RuntimeCrashedError",
    "ServiceUnavailableError",
    "StoredFile",
    "StreamEvent",
    "StreamEventType",
    "TransferError",
    "ValidationError",
    "__version__",
]

_LATER = {"AsyncGatewayClient": "_async_client", "AsyncEventStream": "_async_stream"}


def __getattr__(name: str) -> Any:
    # asyncio is most of what importing this package would cost, and the blocking client does not need it.
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    globals()[name] = value
    return value
