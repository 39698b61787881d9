"""How much a user and their keys may use, and have used."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from gateway_server.api.auth import Identify
from gateway_server.api.bodies import WholeBody
from gateway_server.api.numbers import Whole
from gateway_server.calls.quotas import Quota, Quotas
from gateway_server.calls.standings import Standings
from gateway_server.errors import Invalid, Problem
from gateway_server.identity import access
from gateway_server.identity.users import Users
from gateway_server.models import Principal, Scope, rfc3339_at
from gateway_server.store.counters import USER, Counter, Metric, Period

MAX_LIMIT = 1 << 53
ForUser = Annotated[str | None, Query(description="For an admin: whose quotas are meant.")]


class QuotaAnswer(BaseModel):
    """Where a user stands, or a key of theirs."""

    user: str
    key_id: str | None = Field(description="The API key that it is about; null for all that the user does.")
    metric: Metric
    quota_type: str = Field(description="The name that a refusal gives it.")
    limit: int | None = Field(description="Calls, seconds or bytes; null where there is no limit.")
    used: int | float
    period: Period | None = Field(description="Null for calls at once and bytes, which are about now.")
    reset_at: str | None


class QuotaList(QuotaAnswer):
    """Calls of the day, and all that is counted or limited."""

    quotas: list[QuotaAnswer]


class NewQuota(BaseModel):
    """A limit to be set."""

    limit: Whole | None = Field(ge=0, le=MAX_LIMIT, description="Null takes it away, or goes back to the default.")
    metric: Metric = Metric.CALLS
    period: Period | None = Field(None, description="Of calls (default: day) and seconds (default: day).")
    key_id: str | None = Field(None, description="An API key of the user, for a limit of that key alone.")


def routes(*, quotas: Quotas, standings: Standings, users: Users, identify: Identify) -> APIRouter:
    """The routes below /v1/quotas."""
    router = APIRouter(prefix="/v1", tags=["quotas"], route_class=WholeBody)
    caller = Depends(identify)

    @router.get("/quotas")
    async def show_quota(user: ForUser = None, principal: Principal = caller) -> QuotaList:
        """The limits and what is used of them."""
        found = [_answer(quota) for quota in await quotas.show(access.acting_user(principal, user))]
        return QuotaList(**found[0].model_dump(), quotas=found)

    @router.put("/quotas/{user}")
    async def set_quota(user: str, quota: NewQuota, principal: Principal = caller) -> QuotaAnswer:
        """Sets a limit of a user or of a key of theirs. Needs the scope admin."""
        access.require_operator(principal, Scope.ADMIN)
        counter = Counter(access.check_name(user, "User"), quota.key_id or USER, quota.metric, _period(quota))
        if quota.key_id is None:
            await users.register(user, principal)
        return _answer(await standings.decided(user, quotas.set(counter, quota.limit, principal)))

    return router


def _period(quota: NewQuota) -> Period:
    if quota.metric in (Metric.CALLS, Metric.SECONDS):
        return quota.period or Period.DAY
    if quota.period:
        message = f"{quota.metric} is about what there is at the moment: leave the period out."
        raise Invalid(message, [Problem("/period", message)])
    return Period.NOW


def _answer(quota: Quota) -> QuotaAnswer:
    counter = quota.counter
    told: dict[str, Any] = {"limit": quota.limit, "used": quota.used, "quota_type": counter.quota_type}
    return QuotaAnswer(
        user=counter.user,
        key_id=counter.key_id or None,
        metric=counter.metric,
        period=counter.period or None,
        reset_at=None if quota.resets_at is None else rfc3339_at(quota.resets_at),
        **told,
    )
