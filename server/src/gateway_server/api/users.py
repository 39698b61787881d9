"""The users of the gateway: who there are, who may call, and their end."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from gateway_server.api.auth import Identify
from gateway_server.calls.erasure import Belongings, Erasure
from gateway_server.identity import access
from gateway_server.identity.users import User, Users, UserStatus
from gateway_server.models import Principal, Scope, rfc3339_at


class UserAnswer(BaseModel):
    """A user."""

    id: str
    status: UserStatus
    created_at: str
    keys: int = Field(description="API keys that are valid.")


class UserList(BaseModel):
    """Users, by name."""

    users: list[UserAnswer]
    next_cursor: str | None = Field(description="Send it as cursor for the users after these; null at the end.")


class BelongingsAnswer(BaseModel):
    """What a user has."""

    keys: int = Field(description="API keys, revoked ones included.")
    secrets: int
    files: int
    bytes: int
    jobs: int
    agents: list[str]
    prefabs: list[str]
    last_call_at: str | None


class UserDetail(UserAnswer):
    """A user with what is theirs."""

    belongings: BelongingsAnswer


class DeletedUser(BaseModel):
    """What was deleted with a user; the prefabs live on."""

    id: str
    deleted: BelongingsAnswer
    prefabs_given_to: str


def routes(*, users: Users, erasure: Erasure, identify: Identify) -> APIRouter:
    """The routes below /v1/users."""
    router = APIRouter(prefix="/v1/users", tags=["users"])
    _add_reads(router, users, erasure, identify)
    _add_changes(router, users, erasure, identify)
    return router


def _add_reads(router: APIRouter, users: Users, erasure: Erasure, identify: Identify) -> None:
    caller = Depends(identify)

    @router.get("")
    async def list_users(
        q: Annotated[str, Query(description="Only names that hold this.", max_length=64)] = "",
        cursor: Annotated[str, Query(max_length=64)] = "",
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        principal: Principal = caller,
    ) -> UserList:
        """Every user. Needs the scope admin."""
        access.require_operator(principal, Scope.ADMIN)
        found = await users.list(search=q, after=cursor, limit=limit + 1)
        following = found[limit - 1].id if len(found) > limit else None
        return UserList(users=[_answer(user) for user in found[:limit]], next_cursor=following)

    @router.get("/{user}")
    async def show_user(user: str, principal: Principal = caller) -> UserDetail:
        """A user and what is theirs; oneself, or for an admin anybody."""
        found = await users.find(access.acting_user(principal, user))
        had = await erasure.belongings(found.id)
        return UserDetail(**_answer(found).model_dump(), belongings=_belongings(had))


def _add_changes(router: APIRouter, users: Users, erasure: Erasure, identify: Identify) -> None:
    caller = Depends(identify)

    @router.post("/{user}/disable")
    async def disable_user(user: str, principal: Principal = caller) -> UserAnswer:
        """Refuses everything of a user from now on, and ends their calls; their data stays. Needs the scope admin."""
        access.require_operator(principal, Scope.ADMIN)
        found = await users.disable(user, principal)
        await erasure.end_calls(user)
        return _answer(found)

    @router.post("/{user}/enable")
    async def enable_user(user: str, principal: Principal = caller) -> UserAnswer:
        """Takes disable back. Needs the scope admin."""
        access.require_operator(principal, Scope.ADMIN)
        return _answer(await users.enable(user, principal))

    @router.delete("/{user}")
    async def delete_user(user: str, principal: Principal = caller) -> DeletedUser:
        """Deletes a user with keys, secrets, files, jobs, logs, quotas, usage and agents. Needs the scope admin.

        Prefabs that they published pass to the caller.
        """
        access.require_operator(principal, Scope.ADMIN)
        had = await erasure.erase(user, principal)
        return DeletedUser(id=user, deleted=_belongings(had), prefabs_given_to=principal.user)


def _answer(user: User) -> UserAnswer:
    return UserAnswer(id=user.id, status=user.status, created_at=rfc3339_at(user.created_at), keys=user.keys)


def _belongings(had: Belongings) -> BelongingsAnswer:
    return BelongingsAnswer(
        keys=had.keys,
        secrets=had.secrets,
        files=had.files,
        bytes=had.bytes,
        jobs=had.jobs,
        agents=list(had.agents),
        prefabs=list(had.prefabs),
        last_call_at=rfc3339_at(had.last_call_at) if had.last_call_at is not None else None,
    )
