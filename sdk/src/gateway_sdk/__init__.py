"""Call prefabs through the agent-builder gateway.

Example:
    from gateway_sdk import GatewayClient

    client = GatewayClient(internal_token=token)
    result = client.run("translator", "1.0.0", "translate", {"text": "Hello", "target": "zh"})
    if result.is_success():
        print(result.get_function_result())
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._async_client import AsyncGatewayClient
    from ._async_job import AsyncBatchJob, AsyncJob
    from ._async_job_events import AsyncJobEvents
    from ._async_stream import AsyncEventStream
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
        LocalFileChangedError,
        LocalFileError,
        LocalFileNotFoundError,
        LocalIsADirectoryError,
        LocalPermissionError,
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
    "LocalFileChangedError",
    "LocalFileError",
    "LocalFileNotFoundError",
    "LocalIsADirectoryError",
    "LocalPermissionError",
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

# Of what is neither an error nor a model. Nothing is imported before it is used: a program that catches an error, or
# a prefab that makes a call now and then, should not wait for sockets, and the blocking client not for asyncio.
_PLACES = {
    "AsyncBatchJob": "_async_job",
    "AsyncEventStream": "_async_stream",
    "AsyncGatewayClient": "_async_client",
    "AsyncJob": "_async_job",
    "AsyncJobEvents": "_async_job_events",
    "BatchJob": "_job",
    "EventStream": "_stream",
    "GatewayClient": "_client",
    "Job": "_job",
    "JobEvents": "_job_events",
}

if not TYPE_CHECKING:  # which knows every name from above, and shall say so of any other

    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name in ("exceptions", "models"):
            return import_module(f"{__name__}.{name}")
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        place = _PLACES.get(name) or ("exceptions" if name.endswith("Error") else "models")
        value = getattr(import_module(f"{__name__}.{place}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__, "exceptions", "models"})
