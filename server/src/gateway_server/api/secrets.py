"""Secrets of users: set, named, removed. No route ever answers with a value."""

import re
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from gateway_server.api.auth import Identify
from gateway_server.api.bodies import WholeBody
from gateway_server.calls.vault import Vault
from gateway_server.errors import Invalid, PayloadTooLarge, Problem
from gateway_server.identity import access
from gateway_server.identity.users import Users
from gateway_server.models import Principal
from gateway_server.prefabs.functions import RESERVED_NAMES

MAX_VALUE = 64 << 10
_NAME = re.compile(r"[A-Z0-9_]{1,128}\Z")
ForUser = Annotated[str | None, Query(description="For an admin: whose secrets are meant.")]


class NewSecret(BaseModel):
    """A secret to be set."""

    prefab_id: str
    secret_name: str
    secret_value: str = Field(repr=False)
    user: str | None = Field(None, description="For an admin: whose secret it is. Not given: the caller's own.")


class SecretName(BaseModel):
    """That a secret is set."""

    prefab_id: str
    secret_name: str


class SecretNames(BaseModel):
    """Every secret that a user has set."""

    secrets: list[SecretName]


class PrefabSecrets(BaseModel):
    """What a user has set for one prefab."""

    prefab_id: str
    secret_names: list[str]


def routes(*, vault: Vault, users: Users, identify: Identify) -> APIRouter:
    """The routes below /v1/secrets."""
    router = APIRouter(prefix="/v1/secrets", tags=["secrets"], route_class=WholeBody)
    caller = Depends(identify)

    @router.post("", status_code=204)
    async def set_secret(secret: NewSecret, principal: Principal = caller) -> None:
        """Sets a secret for all versions of a prefab. The prefab need not be there yet."""
        user = access.acting_caller(principal, secret.user)
        access.require_reach(principal, access.check_prefab_id(secret.prefab_id, "/prefab_id"))
        _check_name(secret.secret_name)
        _check_value(secret.secret_value)
        if user != principal.user:
            await users.register(user, principal)
        await vault.put(user, secret.prefab_id, secret.secret_name, secret.secret_value, principal)

    @router.get("")
    async def list_secrets(user: ForUser = None, principal: Principal = caller) -> SecretNames:
        """The names of everything that is set."""
        names = await vault.names(access.acting_caller(principal, user))
        shown = [(prefab, name) for prefab, name in names if access.reaches(principal, prefab)]
        return SecretNames(secrets=[SecretName(prefab_id=prefab, secret_name=name) for prefab, name in shown])

    @router.get("/{prefab_id}")
    async def list_prefab_secrets(prefab_id: str, user: ForUser = None, principal: Principal = caller) -> PrefabSecrets:
        """The names of what is set for one prefab."""
        whose = access.acting_caller(principal, user)
        access.require_reach(principal, prefab_id)
        names = await vault.names(whose, prefab_id)
        return PrefabSecrets(prefab_id=prefab_id, secret_names=[name for _, name in names])

    @router.delete("/{prefab_id}/{secret_name}", status_code=204)
    async def remove_secret(
        prefab_id: str, secret_name: str, user: ForUser = None, principal: Principal = caller
    ) -> None:
        """Forgets a secret."""
        whose = access.acting_caller(principal, user)
        access.require_reach(principal, prefab_id)
        await vault.remove(whose, prefab_id, secret_name, principal)

    return router


def _check_name(name: str) -> None:
    if not _NAME.match(name):
        raise _refusal("/secret_name", f"A secret is named with A-Z, 0-9 and _, not {name[:80]!r}.")
    if name in RESERVED_NAMES:
        raise _refusal("/secret_name", f"{name} has a meaning of its own and cannot be a secret.")


def _check_value(value: str) -> None:
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise _refusal("/secret_value", "The secret is not valid text.") from error
    if not value:
        raise _refusal("/secret_value", "The secret is empty. To forget one, remove it.")
    if "\0" in value:
        raise _refusal("/secret_value", "A secret cannot hold a null character.")
    if size > MAX_VALUE:
        raise PayloadTooLarge(f"A secret has at most {MAX_VALUE >> 10} KiB.")


def _refusal(pointer: str, message: str) -> Invalid:
    return Invalid(message, [Problem(pointer, message)])
