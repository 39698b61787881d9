"""What was used, by whom and of what."""

from datetime import date, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from gateway_server.api.auth import Identify
from gateway_server.calls import usage
from gateway_server.calls.usage import Dimension
from gateway_server.errors import Invalid, Problem
from gateway_server.identity import access
from gateway_server.models import Principal, now
from gateway_server.store.database import Database

USUAL_DAYS = 30
MOST_DAYS = 3660
FIRST_DAY = date(2000, 1, 1)


class UsageRow(BaseModel):
    """One group; those of day, user, agent, prefab and version are there that were asked for."""

    day: str | None = None
    user: str | None = None
    agent: str | None = None
    prefab: str | None = None
    version: str | None = None
    calls: int
    failed: int
    seconds: float


class UsageAnswer(BaseModel):
    """Usage within some days (UTC), both ends included."""

    since: date
    until: date
    user: str | None
    calls: int
    failed: int
    seconds: float
    by: list[Dimension]
    rows: list[UsageRow]


def routes(*, database: Database, identify: Identify) -> APIRouter:
    """The route /v1/usage."""
    router = APIRouter(prefix="/v1", tags=["usage"])
    caller = Depends(identify)

    @router.get("/usage", response_model_exclude_unset=True)
    async def show_usage(
        user: Annotated[str | None, Query(description="For an admin: whose; not given: everybody's.")] = None,
        since: Annotated[date | None, Query(description="First day (UTC); not given: 30 days ago.")] = None,
        until: Annotated[date | None, Query(description="Last day (UTC); not given: today.")] = None,
        by: Annotated[
            str, Query(description="How to group: some of day, user, agent, prefab, version, with commas.")
        ] = "prefab",
        principal: Principal = caller,
    ) -> UsageAnswer:
        """Calls, failures and seconds of run time: one's own; for an admin, everybody's."""
        whose = access.user_or_all(principal, user)
        first, last = _span(since, until)
        dimensions = _dimensions(by)
        rows = await usage.report(database, since=first, until=last, user=whose, by=dimensions)
        return UsageAnswer(
            since=first,
            until=last,
            user=whose,
            calls=sum(row.calls for row in rows),
            failed=sum(row.failed for row in rows),
            seconds=round(sum(row.seconds for row in rows), 3),
            by=dimensions,
            rows=[_row(row) for row in rows],
        )

    return router


def _row(row: usage.Usage) -> UsageRow:
    group = {str(dimension): value for dimension, value in row.group.items()}
    return UsageRow.model_validate({**group, "calls": row.calls, "failed": row.failed, "seconds": row.seconds})


def _dimensions(text: str) -> list[Dimension]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    known = [str(dimension) for dimension in Dimension]
    for name in names:
        if name not in known:
            message = f"{name[:80]!r} is none of {', '.join(known)}."
            raise Invalid(f"Usage cannot be grouped so: {message}", [Problem("/by", message)])
    if Dimension.VERSION in names and Dimension.PREFAB not in names:  # numbers alone would add up what is not alike
        names.insert(names.index(Dimension.VERSION), Dimension.PREFAB)
    return [Dimension(name) for name in dict.fromkeys(names)]


def _span(since: date | None, until: date | None) -> tuple[date, date]:
    today = now().date()
    tomorrow = today + timedelta(days=1)  # has begun where the caller is, perhaps
    for name, day in (("since", since), ("until", until)):
        if day is not None and not FIRST_DAY <= day <= tomorrow:
            message = f"must lie between {FIRST_DAY} and {tomorrow}"
            raise Invalid(f"The day {name} {message}.", [Problem(f"/{name}", message)])
    last = until or today
    first = since or max(FIRST_DAY, last - timedelta(days=USUAL_DAYS - 1))
    if first > last:
        message = f"The first day, {first}, is after the last, {last}."
        raise Invalid(message, [Problem("/since", "must not be after until")])
    if (last - first).days >= MOST_DAYS:
        raise Invalid(f"At most {MOST_DAYS} days at once.", [Problem("/since", "is too long ago")])
    return first, last
