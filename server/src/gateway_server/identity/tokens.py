"""Internal tokens: proof of a user, an agent and a place in a call tree, good for a limited time.

Those that leave the gateway are signed. The token of a call is not: it is good only while the call runs, and only here,
where it is remembered for as long. Every call needs one, few use it, and to sign it takes longer than to run a small
function.
"""

import math
import os
import time
from dataclasses import dataclass, replace

import jwt
import msgspec

from gateway_server.errors import Unauthenticated
from gateway_server.identity import audit
from gateway_server.identity.signing import SigningKeys
from gateway_server.identity.users import Users
from gateway_server.models import Principal, Scope
from gateway_server.store.database import Database

ALGORITHM = "HS256"
REMEMBERED = 10_000
"""Verified tokens kept in memory; a signature check costs more than everything else that a small call needs."""
OF_CALL = "ct-"
"""What the tokens of calls begin with, and no signed one does."""
_SIZE = 24
"""Random bytes of such a token."""
_NOT_SIGNED = "The internal token is not one of this gateway's, or its signing key was revoked."


@dataclass(frozen=True)
class _Known:
    principal: Principal
    expires_at: float


class _OfCall:
    """What a token of a call says, put together when somebody comes with it."""

    __slots__ = ("_caller", "_deadline", "_issued_at", "_job_id", "_known", "_signing_key")

    def __init__(self, caller: Principal, job_id: str, deadline: float, signing_key: str) -> None:
        self._caller = caller
        self._job_id = job_id
        self._deadline = deadline
        self._issued_at = time.time()
        self._signing_key = signing_key
        self._known: _Known | None = None

    def known(self) -> _Known:
        if self._known is None:
            principal = replace(
                self._caller,
                scopes=frozenset({Scope.CALL}),
                prefabs=None,
                issued_at=self._issued_at,
                job_id=self._job_id,
                root_job_id=self._caller.root_job_id or self._job_id,
                depth=self._caller.depth + 1,
                deadline=self._deadline,
                signing_key=self._signing_key,
            )
            self._known = _Known(principal, math.inf)
        return self._known


class _Claims(msgspec.Struct, omit_defaults=True):
    """What a signed token says."""

    sub: str
    exp: float
    iat: float = 0.0
    agent: str | None = None
    key: str | None = None
    prefabs: list[str] | None = None
    by: str | None = None
    job: str | None = None
    root: str | None = None
    tree: str | None = None
    depth: int = 0
    deadline: float | None = None


class Tokens:
    """Mints and verifies internal tokens."""

    def __init__(self, database: Database, signing: SigningKeys, users: Users) -> None:
        self._database = database
        self._users = users
        self._signing = signing
        self._known: dict[str, _Known] = {}
        self._of_calls: dict[str, _OfCall] = {}
        """By token."""
        self.revoked: set[str] = set()
        """Ids of API keys that no longer count; tokens made from them are refused at once."""

    def mint(self, principal: Principal, *, expires_at: float) -> str:
        """A token for `principal`; `expires_at` in POSIX seconds.

        Raises:
            Unauthenticated: the user may not call any more.
        """
        self._users.check_principal(principal)
        claims = _Claims(
            sub=principal.user,
            iat=time.time(),
            exp=int(expires_at) + 1,
            agent=principal.agent,
            key=principal.key_id,
            prefabs=None if principal.prefabs is None else sorted(principal.prefabs),
            by=principal.made_by,
            job=principal.job_id,
            root=principal.root_job_id,
            tree=principal.tree_id,
            depth=principal.depth,
            deadline=principal.deadline,
        )
        key_id, key = self._signing.signer
        return jwt.encode(msgspec.to_builtins(claims), key, ALGORITHM, headers={"kid": key_id})

    def mint_for_call(self, caller: Principal, job_id: str, *, deadline: float) -> str:
        """A token for the code inside a call that `caller` makes, until `end_call`; the deadline in POSIX seconds. A
        limit of the caller's key to some prefabs is on what its holder calls, not on what that is made of.

        Raises:
            Unauthenticated: the user may not call any more.
        """
        self._users.check_principal(caller)
        token = OF_CALL + os.urandom(_SIZE).hex()
        self._of_calls[token] = _OfCall(caller, job_id, deadline, self._signing.signer[0])
        return token

    def end_call(self, token: str) -> None:
        """The call is over to which a token belongs."""
        del self._of_calls[token]

    async def issue(self, principal: Principal, *, expires_at: float, by: Principal) -> str:
        """A token that somebody asked for; one for another user or for an agent is written into the audit log."""
        if principal.user != by.user:
            principal = replace(principal, made_by=by.user)
        if principal.user != by.user or principal.agent is not None:
            detail = {"agent": principal.agent, "expires_at": int(expires_at)}
            await self._database.write(lambda c: audit.record(c, by, "token.create", principal.user, **detail))
        return self.mint(principal, expires_at=expires_at)

    def recall(self, token: str) -> Principal | None:
        """Who a token stands for that has been verified lately, if it still does; else None."""
        known = self._remembered(token)
        if known is None or known.expires_at < time.time() or not self._is_signed(known.principal):
            return None
        self._check_caller(known.principal)
        return known.principal

    def verify(self, token: str) -> Principal:
        """Who the token stands for.

        Raises:
            Unauthenticated: forged, expired, revoked, of a user who may not call, or no token at all.
        """
        known = self._remembered(token)
        if known is None:
            known = self._decode(token)
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[token] = known
        if known.expires_at < time.time():
            raise Unauthenticated("The internal token has expired.")
        self.check(known.principal)
        return known.principal

    async def identify(self, token: str) -> Principal:
        """The same; a token whose key is unknown may be one that another gateway has signed with a new one.

        Raises:
            Unauthenticated: as `verify`.
        """
        try:
            return self.verify(token)
        except Unauthenticated:
            if self._is_known(token) or not await self._signing.look_again():
                raise
            return self.verify(token)

    def _is_known(self, token: str) -> bool:
        try:
            return self._signing.find(_key_id(token)) is not None
        except jwt.PyJWTError:
            return True  # it is no token at all, and no key will change that

    def check(self, principal: Principal) -> None:
        """Refuses an identity that was good when it was proven.

        Raises:
            Unauthenticated: its key has been revoked, or the one that signed, or its user may not call any more.
        """
        if not self._is_signed(principal):
            raise Unauthenticated(_NOT_SIGNED)
        self._check_caller(principal)

    def _check_caller(self, principal: Principal) -> None:
        if principal.key_id in self.revoked:
            raise Unauthenticated("The API key behind this token has been revoked.")
        self._users.check_principal(principal)

    def _remembered(self, token: str) -> _Known | None:
        if token.startswith(OF_CALL):
            call = self._of_calls.get(token)
            return None if call is None else call.known()
        return self._known.get(token)

    def _is_signed(self, principal: Principal) -> bool:
        """Whether the key still counts that signed when an identity was proven, if that was by a token."""
        return principal.signing_key is None or self._signing.find(principal.signing_key) is not None

    def _decode(self, token: str) -> _Known:
        if token.startswith(OF_CALL):
            raise Unauthenticated("No call that runs here has this token: it has ended, or runs on another gateway.")
        try:
            key_id = _key_id(token)
            key = self._signing.find(key_id)
            if key is None:
                raise Unauthenticated(_NOT_SIGNED)
            claims = jwt.decode(token, key, [ALGORITHM], options={"require": ["exp", "sub"], "verify_iat": False})
            told = msgspec.convert(claims, _Claims)
        except jwt.ExpiredSignatureError as error:
            raise Unauthenticated("The internal token has expired.") from error
        except (jwt.PyJWTError, msgspec.ValidationError, UnicodeEncodeError) as error:  # the last for lone surrogates
            raise Unauthenticated("The internal token is not valid. (API keys begin with sk-.)") from error
        principal = Principal(
            user=told.sub,
            agent=told.agent,
            scopes=frozenset({Scope.CALL}),
            prefabs=None if told.prefabs is None else frozenset(told.prefabs),
            key_id=told.key,
            issued_at=told.iat,
            made_by=told.by,
            job_id=told.job,
            root_job_id=told.root,
            tree_id=told.tree,
            depth=told.depth,
            deadline=told.deadline,
            signing_key=key_id,
        )
        return _Known(principal, told.exp)


def _key_id(token: str) -> str:
    return jwt.get_unverified_header(token).get("kid", "")  # type: ignore[no-any-return]
