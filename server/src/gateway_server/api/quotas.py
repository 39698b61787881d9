"""How many calls a user may make, and has made."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from gateway_server.api.auth import Identify
from gateway_server.calls.quotas import PERIOD, Quota, Quotas
from gateway_server.identity import access
from gateway_server.identity.users import Users
from gateway_server.models import Principal, Scope, rfc3339

MAX_LIMIT = 1 << 53
ForUser = Annotated[str | None, Query(description="For an admin: whose quota is meant.")]


class QuotaAnswer(BaseModel):
    """Where a user stands in the current period."""

    user: str
    limit: int | None = Field(description="Calls in a period; null where there is no limit.")
    used: int
    period: str = PERIOD
    reset_at: str


class NewQuota(BaseModel):
    """A limit to be set."""

    limit: int | None = Field(ge=0, le=MAX_LIMIT, description="Null goes back to the default of the gateway.")
    period: Literal["day"] = "day"


def routes(*, quotas: Quotas, users: Users, identify: Identify) -> APIRouter:
    """The routes below /v1/quotas."""
    router = APIRouter(prefix="/v1", tags=["quotas"])
    caller = Depends(identify)

    @router.get("/quotas")
    async def show_quota(user: ForUser = None, principal: Principal = caller) -> QuotaAnswer:
        """The limit and what is used of it."""
        return _answer(await quotas.show(access.acting_user(principal, user)))

    @router.put("/quotas/{user}")
    async def set_quota(user: str, quota: NewQuota, principal: Principal = caller) -> QuotaAnswer:
        """Sets the limit of a user. Needs the scope admin."""
        access.require_scope(principal, Scope.ADMIN)
        await users.register(access.check_name(user, "User"), principal)
        return _answer(await quotas.set(user, quota.limit, principal))

    return router


def _answer(quota: Quota) -> QuotaAnswer:
    reset_at = rfc3339(quota.reset_at)
    return QuotaAnswer(user=quota.user, limit=quota.limit, used=quota.used, reset_at=reset_at)
