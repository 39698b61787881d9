"""From the headers of a request to the one who calls."""

import asyncio
import ipaddress
import time
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import urlsplit

from starlette.requests import Request

from gateway_server.calls.running import RunningCalls
from gateway_server.errors import PermissionDenied, Unauthenticated
from gateway_server.identity import peers
from gateway_server.identity.keys import PREFIX, Keys
from gateway_server.identity.tokens import Tokens
from gateway_server.identity.users import Users
from gateway_server.models import Principal, Scope
from gateway_server.settings import Settings

Identify = Callable[[Request], Awaitable[Principal]]
"""A dependency of routes: who calls. Raises Unauthenticated where nobody is known."""
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class Authenticator:
    """Knows every way in which a caller may prove who it is.

    An internal token (`X-Internal-Token`), an API key or a token (`Authorization: Bearer`, `X-API-Key`), or, with none
    of these, an address that the operator trusts.
    """

    def __init__(
        self,
        settings: Settings,
        users: Users,
        keys: Keys,
        tokens: Tokens,
        running: RunningCalls,
        is_worker: Callable[[int], bool],
    ) -> None:
        self._settings = settings
        self._users = users
        self._keys = keys
        self._tokens = tokens
        self._running = running
        self._is_worker = is_worker

    async def __call__(self, request: Request) -> Principal:
        """As a dependency of a route."""
        return await self.identify(request.headers, request.client)

    async def identify(self, headers: Mapping[str, str], client: tuple[str, int] | None) -> Principal:
        """Who sent these headers from that address and port.

        Raises:
            Unauthenticated: nobody we know; an invalid proof is never ignored in favour of a trusted address.
        """
        if token := headers.get("x-internal-token"):
            if token.startswith(PREFIX):
                raise Unauthenticated(
                    "X-Internal-Token takes an internal token; send API keys as Authorization: Bearer."
                )
            return await self._from_token(token)
        given = headers.get("authorization")
        if proof := _bearer(given) or headers.get("x-api-key"):
            return await self._keys.verify(proof) if proof.startswith(PREFIX) else await self._from_token(proof)
        if given is not None:
            raise Unauthenticated(
                "The header Authorization must be: Bearer, a space, and an API key or internal token."
            )
        return await self._trusted(headers, client)

    def recall(self, headers: Mapping[str, str]) -> Principal | None:
        """The same at once, for a proof that has been seen lately; None: ask `identify`.

        Raises:
            Unauthenticated: as `identify` does.
        """
        if token := headers.get("x-internal-token"):
            principal = self._tokens.recall(token)
        else:
            proof = _bearer(headers.get("authorization"))
            principal = None if proof is None else self._keys.recall(proof) or self._tokens.recall(proof)
        if principal is not None and principal.job_id is not None:
            self._check_running(principal)
        return principal

    async def _from_token(self, token: str) -> Principal:
        principal = await self._tokens.identify(token)
        self._check_running(principal)
        return principal

    def check_still(self, principal: Principal) -> None:
        """Asks once more about a caller who was identified a while ago.

        Raises:
            Unauthenticated: their key has been revoked, their call has ended, or their user may not call any more.
        """
        self._tokens.check(principal)
        self._check_running(principal)

    def _check_running(self, principal: Principal) -> None:
        if principal.job_id is not None and self._running.find(principal.job_id) is None:
            raise Unauthenticated("The call that this token belongs to has ended.")

    async def from_api_key(self, headers: Mapping[str, str]) -> Principal:
        """Who an API key stands for, where nothing but a key will do.

        Raises:
            Unauthenticated: no key, or none of ours.
        """
        proof = _bearer(headers.get("authorization")) or headers.get("x-api-key") or ""
        if not proof.startswith(PREFIX):
            raise Unauthenticated("An API key is needed: Authorization: Bearer sk-…")
        return await self._keys.verify(proof)

    async def _trusted(self, headers: Mapping[str, str], client: tuple[str, int] | None) -> Principal:
        """The default user, where the address is enough."""
        ip = _address(client)
        if client is not None and ip is not None:
            if self._settings.trust_same_host and ip.is_loopback:
                _refuse_other_sites(headers)
                await self._refuse_functions(client)
                return self._default(Scope.CALL, Scope.PUBLISH)
            if any(ip in network for network in self._settings.trusted_networks):
                if peers.is_here(str(ip)):
                    await self._refuse_functions(client)
                return self._default(Scope.CALL)
        raise Unauthenticated(
            "The request names no caller. Send an internal token (X-Internal-Token) or an API key "
            "(Authorization: Bearer sk-…)."
        )

    def _default(self, *scopes: Scope) -> Principal:
        moment = time.time()
        self._users.check(self._settings.default_user, moment)
        return Principal(user=self._settings.default_user, scopes=frozenset(scopes), issued_at=moment)

    async def _refuse_functions(self, client: tuple[str, int]) -> None:
        """Functions reach this address, too, and have a token of their own."""
        pids = await asyncio.to_thread(peers.processes_of, *client) if peers.AVAILABLE else {0}
        if not pids or any(self._is_worker(pid) for pid in pids):
            raise Unauthenticated("Without a token, requests are taken from your own programs only.")


def _address(client: tuple[str, int] | None) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = None if client is None else ipaddress.ip_address(client[0])
    except ValueError:
        return None
    # An IPv4 connection to a socket that takes both has such an address, which is loopback to no older Python.
    return getattr(address, "ipv4_mapped", None) or address


def _bearer(header: str | None) -> str | None:
    if header is None:
        return None
    scheme, _, value = header.partition(" ")
    return value.strip() or None if scheme.lower() == "bearer" else None


def _refuse_other_sites(headers: Mapping[str, str]) -> None:
    """A page of another site must not have the trust of this machine's own programs (rebound names, forged forms)."""
    host = urlsplit(f"//{headers.get('host', '')}").hostname
    origin = headers.get("origin")
    if host not in _LOOPBACK_NAMES or (origin and urlsplit(origin).hostname not in _LOOPBACK_NAMES):
        raise PermissionDenied("Without a token, requests are taken from programs on this machine only.")
