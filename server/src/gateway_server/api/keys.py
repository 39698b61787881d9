"""API keys and the tokens made from them."""

import time
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field

from gateway_server.api.auth import Authenticator
from gateway_server.api.bodies import WholeBody
from gateway_server.api.numbers import Whole
from gateway_server.errors import Invalid, NotFound, Problem
from gateway_server.identity import access
from gateway_server.identity.keys import ApiKey, Keys
from gateway_server.identity.signing import SigningKey, SigningKeys
from gateway_server.identity.tokens import Tokens
from gateway_server.identity.users import Users
from gateway_server.models import Principal, Scope, rfc3339_at

CONVERTED_LIFE = 24 * 3600
LONGEST_LIFE = 30 * 24 * 3600
MAX_NAME = 200


class NewKey(BaseModel):
    """A key to be made."""

    user: str
    scopes: list[Scope] = Field(default_factory=lambda: [Scope.CALL], min_length=1)
    name: str = Field("", max_length=MAX_NAME, description="What it is for.")
    prefabs: list[str] | None = Field(
        None, min_length=1, max_length=100, description="The only prefabs that it may call or publish; null for all."
    )


class KeyAnswer(BaseModel):
    """An API key, without the key itself."""

    id: str
    user: str
    name: str
    scopes: list[Scope]
    prefabs: list[str] | None
    created_at: str
    revoked_at: str | None


class CreatedKey(KeyAnswer):
    """A new API key. The key is told this once."""

    key: str = Field(repr=False)


class KeyList(BaseModel):
    """API keys, newest first."""

    keys: list[KeyAnswer]


class NewToken(BaseModel):
    """An internal token to be made."""

    user: str | None = Field(None, description="Not given: the key's own user.")
    agent: str | None = Field(None, description="The agent that it speaks for; needs the scope admin.")
    ttl: Whole = Field(3600, ge=1, le=LONGEST_LIFE, description="Seconds that it lives.")


class ConvertedToken(BaseModel):
    """The internal token of an API key."""

    internal_token: str = Field(repr=False)


class CreatedToken(ConvertedToken):
    """A new internal token."""

    expires_at: str


class Rotation(BaseModel):
    """How the key that signs tokens is changed."""

    revoke_old: bool = Field(False, description="End every token that was signed before, at once.")


class SigningKeyAnswer(BaseModel):
    """A key that signs tokens, or did."""

    id: str
    created_at: str
    retired_at: str | None = Field(
        description="Since when it only verifies what it has signed; null for the one in use."
    )


class SigningKeyList(BaseModel):
    """Keys that verify tokens, newest first; the first one signs."""

    signing_keys: list[SigningKeyAnswer]


def routes(*, keys: Keys, tokens: Tokens, signing: SigningKeys, users: Users, identify: Authenticator) -> APIRouter:
    """The routes /v1/keys, /v1/tokens, /v1/signing-keys and the conversion of keys."""
    router = APIRouter(prefix="/v1", tags=["keys"], route_class=WholeBody)
    _add_keys(router, keys, tokens, identify)
    _add_tokens(router, tokens, users, identify)
    _add_signing(router, signing, identify)
    return router


def _add_keys(router: APIRouter, keys: Keys, tokens: Tokens, authenticator: Authenticator) -> None:
    caller = Depends(authenticator)

    @router.post("/keys", status_code=201)
    async def create_key(wanted: NewKey, principal: Principal = caller) -> CreatedKey:
        """Makes a key for a user. Needs the scope admin."""
        access.require_operator(principal, Scope.ADMIN)
        user = access.check_name(wanted.user, "User")
        text, key = await keys.create(user, wanted.scopes, wanted.name, prefabs=_checked(wanted), by=principal)
        return CreatedKey(**_answer(key).model_dump(), key=text)

    @router.get("/keys")
    async def list_keys(
        user: Annotated[str | None, Query(description="For an admin: whose keys; not given: everybody's.")] = None,
        principal: Principal = caller,
    ) -> KeyList:
        """The caller's own keys; for an admin, all of them."""
        access.require_no_agent(principal)
        found = await keys.list(access.user_or_all(principal, user))
        return KeyList(keys=[_answer(key) for key in found])

    @router.delete("/keys/{key_id}", status_code=204)
    async def revoke_key(key_id: str, principal: Principal = caller) -> None:
        """Ends a key, and with it every token that was made from it."""
        access.require_no_agent(principal)
        if not access.may_revoke(principal, await keys.owner(key_id)):
            raise NotFound(f"There is no API key {key_id[:60]}.")
        await keys.revoke(key_id, principal)
        tokens.revoked.add(key_id)


def _add_tokens(router: APIRouter, tokens: Tokens, users: Users, authenticator: Authenticator) -> None:
    @router.post("/tokens", status_code=201)
    async def create_token(wanted: NewToken, request: Request) -> CreatedToken:
        """Makes an internal token: from an admin's key for anybody, from another key for its own user.

        Only a key will do: a token that makes tokens would never end.
        """
        principal = await authenticator.from_api_key(request.headers)
        access.require_scope(principal, Scope.CALL)  # which is what a token is good for
        user = access.acting_user(principal, wanted.user)
        if wanted.agent is not None:
            access.require_scope(principal, Scope.ADMIN)
            access.check_name(wanted.agent, "Agent")
        if user != principal.user:
            await users.register(user, principal)
        expires_at = time.time() + wanted.ttl
        identity = Principal(user=user, agent=wanted.agent, prefabs=principal.prefabs, key_id=principal.key_id)
        token = await tokens.issue(identity, expires_at=expires_at, by=principal)
        return CreatedToken(internal_token=token, expires_at=rfc3339_at(expires_at))

    @router.post("/auth/convert_to_internal_token")
    async def convert_to_internal_token(request: Request) -> ConvertedToken:
        """The internal token of an API key (`Authorization: Bearer sk-…`). It lives 24 hours and names no agent."""
        principal = await authenticator.from_api_key(request.headers)
        access.require_scope(principal, Scope.CALL)  # which is what a token is good for
        identity = Principal(user=principal.user, prefabs=principal.prefabs, key_id=principal.key_id)
        return ConvertedToken(internal_token=tokens.mint(identity, expires_at=time.time() + CONVERTED_LIFE))


def _add_signing(router: APIRouter, signing: SigningKeys, authenticator: Authenticator) -> None:
    caller = Depends(authenticator)

    @router.post("/signing-keys/rotate")
    async def rotate_signing_key(wanted: Rotation | None = None, principal: Principal = caller) -> SigningKeyList:
        """Signs tokens with a new key from now on; those that were signed before live on. Needs the scope admin."""
        access.require_operator(principal, Scope.ADMIN)
        found = await signing.rotate(principal, revoke_old=wanted is not None and wanted.revoke_old)
        return SigningKeyList(signing_keys=[_signing_key(key) for key in found])


def _signing_key(key: SigningKey) -> SigningKeyAnswer:
    retired_at = None if key.retired_at is None else rfc3339_at(key.retired_at)
    return SigningKeyAnswer(id=key.id, created_at=rfc3339_at(key.created_at), retired_at=retired_at)


def _checked(wanted: NewKey) -> list[str] | None:
    if wanted.prefabs is not None and Scope.ADMIN in wanted.scopes:
        message = "An admin's key cannot be limited to prefabs: it may make itself another."
        raise Invalid(message, [Problem("/prefabs", message)])
    for number, prefab_id in enumerate(wanted.prefabs or ()):
        access.check_prefab_id(prefab_id, f"/prefabs/{number}")
    return wanted.prefabs


def _answer(key: ApiKey) -> KeyAnswer:
    return KeyAnswer(
        id=key.id,
        user=key.user,
        name=key.name,
        scopes=sorted(key.scopes),
        prefabs=None if key.prefabs is None else sorted(key.prefabs),
        created_at=rfc3339_at(key.created_at),
        revoked_at=rfc3339_at(key.revoked_at) if key.revoked_at is not None else None,
    )
