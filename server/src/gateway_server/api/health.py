"""Whether the gateway lives, whether it takes work, and what it counted."""

from dataclasses import asdict

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from pydantic import BaseModel

from gateway_server import __version__
from gateway_server.calls.running import RunningCalls
from gateway_server.engine.local.pool import LocalEngine

SOON = 1
"""Seconds after which it is worth asking a gateway again that takes no work."""


class Health(BaseModel):
    """The process answers."""

    status: str = "ok"
    version: str = __version__


class Held(BaseModel):
    """One protection: whether it holds, and what it does; else why it does not, and what to do."""

    name: str
    held: bool
    detail: str


class Readiness(BaseModel):
    """Whether work is taken, and how well packages are locked in."""

    ready: bool
    isolation: str
    refused: dict[str, str]
    """Stronger levels of isolation that this machine does not offer, and why."""
    protections: list[Held]
    """What protects people from packages here, one by one."""


def routes(*, engine: LocalEngine, running: RunningCalls) -> APIRouter:
    """The routes that monitors ask."""
    router = APIRouter(tags=["health"])
    registry = CollectorRegistry()
    Gauge("gateway_running_calls", "Calls that run, or wait for a place.", registry=registry).set_function(
        lambda: len(running)
    )
    Gauge("gateway_worker_processes", "Idle and busy workers.", registry=registry).set_function(engine.count_workers)

    @router.head("/health", include_in_schema=False)
    @router.get("/health", response_model=Health)
    async def health() -> Health:
        """Answers while the process lives."""
        return Health()

    @router.head("/ready", include_in_schema=False)
    @router.get("/ready", response_model=Readiness)
    async def ready(response: Response) -> Readiness:
        """200 while work is taken, else 503."""
        if not engine.is_open:
            response.status_code = 503
            response.headers["retry-after"] = str(SOON)
        refused = {level.value: reason for level, reason in engine.refused.items()}
        return Readiness(
            ready=engine.is_open,
            isolation=engine.isolation.value,
            refused=refused,
            protections=[Held(**asdict(one)) for one in engine.protections],
        )

    @router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Counters in the Prometheus text format."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return router
