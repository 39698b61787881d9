"""What operators did."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from gateway_server.api.auth import Identify
from gateway_server.identity import access, audit
from gateway_server.models import Principal, Scope, rfc3339_at
from gateway_server.store.database import Database


class AuditEntry(BaseModel):
    """One change."""

    id: int
    at: str
    actor: str
    key_id: str | None = Field(description="The API key that the actor came with.")
    action: str = Field(description="Noun and verb, such as key.create.")
    target: str
    detail: dict[str, Any]


class AuditLog(BaseModel):
    """Changes, newest first."""

    entries: list[AuditEntry]
    next_cursor: int | None = Field(description="Send it as cursor for older entries; null at the end.")


def routes(*, database: Database, identify: Identify) -> APIRouter:
    """The route /v1/audit."""
    router = APIRouter(prefix="/v1", tags=["audit"])
    caller = Depends(identify)

    @router.get("/audit")
    async def show_audit_log(
        actor: str | None = None,
        action: Annotated[str | None, Query(description="An action, or its noun for all of them: key.")] = None,
        cursor: Annotated[int | None, Query(ge=1, le=1 << 53)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        principal: Principal = caller,
    ) -> AuditLog:
        """Who changed what. Needs the scope admin."""
        access.require_operator(principal, Scope.ADMIN)
        found = await audit.entries(database, actor=actor, action=action, before=cursor, limit=limit + 1)
        following = found[limit - 1].id if len(found) > limit else None
        return AuditLog(entries=[_answer(entry) for entry in found[:limit]], next_cursor=following)

    return router


def _answer(entry: audit.Entry) -> AuditEntry:
    at = rfc3339_at(entry.at)
    return AuditEntry(**{**vars(entry), "at": at})
