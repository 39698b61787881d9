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
from ._job import BatchJob, Job
from ._job_events import JobEvents
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
from .models import (
    BatchResult,
    CallStatus,
    JobEventType,
    JobStatus,
    PrefabCall,
    PrefabResult,
    StoredFile,
    StreamEvent,
    StreamEventType,
)

if TYPE_CHECKING:
    from ._async_client import AsyncGatewayClient
    from ._async_job import AsyncBatchJob, AsyncJob
    from ._async_job_events import AsyncJobEvents
    from ._async_stream import AsyncEventStream

__version__ = "1.1.0"

__all__ = [
    "AgentContextRequiredError",
    "AgentNotFoundError",
    "AsyncBatchJob",
    "AsyncEventStream",
    "AsyncGatewayClient",
    "AsyncJob",
    "AsyncJobEvents",
    "AuthenticationError",
    "BatchJob",
    "BatchResult",
    "CallStatus",
    "ConflictError",
    "ConnectionFailedError",
    "DeadlineExceededError",
    "EventStream",
    "GatewayClient",
    "GatewayError",
    "InternalServerError",
    "Job",
    "JobEventType",
    "JobEvents",
    "JobNotFoundError",
    "JobStatus",
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

_LATER = {
    "AsyncBatchJob": "_async_job",
    "AsyncEventStream": "_async_stream",
    "AsyncGatewayClient": "_async_client",
    "AsyncJob": "_async_job",
    "AsyncJobEvents": "_async_job_events",
}


def __getattr__(name: str) -> Any:
    # asyncio is most of what importing this package would cost, and the blocking client does not need it.
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    globals()[name] = value
    return value
