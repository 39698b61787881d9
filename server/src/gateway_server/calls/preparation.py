"""What speaks against a call before it runs: asked in an order that never changes, so that the same mistake gets the
same answer everywhere."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway_server.calls import trees
from gateway_server.calls.inputs import Validator
from gateway_server.calls.quotas import Quotas
from gateway_server.calls.running import RunningCalls
from gateway_server.calls.standings import Standings
from gateway_server.calls.vault import Vault
from gateway_server.errors import Canceled, DeadlineExceeded, Invalid, NotFound
from gateway_server.files.library import Library
from gateway_server.files.records import StoredFile
from gateway_server.identity import access
from gateway_server.identity.users import Users
from gateway_server.models import Call, Principal
from gateway_server.prefabs.catalogue import Catalogue
from gateway_server.prefabs.functions import Function
from gateway_server.prefabs.versions import Version
from gateway_server.settings import Settings
from gateway_server.store.database import Database

MOST_VALIDATORS = 10_000


@dataclass(kw_only=True, slots=True)
class Ready:
    """A call that nothing speaks against any more."""

    principal: Principal
    call: Call
    version: Version
    function: Function
    files: Mapping[str, Sequence[StoredFile]]
    secrets: Mapping[str, str]
    deadline: float
    """On the monotonic clock, which is that of the event loop."""


class Preparation:
    """Makes calls ready, or refuses them."""

    def __init__(
        self,
        *,
        settings: Settings,
        database: Database,
        catalogue: Catalogue,
        library: Library,
        vault: Vault,
        users: Users,
        quotas: Quotas,
        standings: Standings,
        running: RunningCalls,
    ) -> None:
        self._settings = settings
        self._database = database
        self._catalogue = catalogue
        self._library = library
        self._vault = vault
        self._users = users
        self.check_caller = users.check_principal
        """To be asked right before something is recorded for a caller who was identified a while ago."""
        self._quotas = quotas
        self._standings = standings
        self._running = running
        self._validators: dict[tuple[str, str], Validator] = {}

    async def prepare(
        self,
        principal: Principal,
        call: Call,
        *,
        deadline: float | Invalid | None,
        is_charged: bool = False,
        is_queued: bool = False,
    ) -> Ready:
        """Checks everything that can be checked before the function runs, in an order that never changes.

        `deadline` is the caller's, on the clock of the event loop, or why it cannot be understood; `is_charged` says
        that the quota has been charged when the call was accepted, `is_queued` that it will wait for its place.

        Raises:
            GatewayFault: the refusal.
        """
        trees.check_depth(principal.depth, self._settings.nesting_limit)
        if principal.job_id is not None and self._running.find(principal.job_id) is None:
            raise Canceled("The call that made this one has ended.")
        version = self._catalogue.recall(call.prefab_id, call.version)
        if version is None:
            version = await self._catalogue.find(call.prefab_id, call.version)
        access.may_call(principal, call.prefab_id)
        if call.version != version.version:  # it asked for the latest
            call = call._replace(version=version.version)
        function = _function(version, call)
        self._validator(version, function).check(call)
        files = await self._readable(principal, call) if call.files else {}
        if not (is_charged or self._standings.has_room_now(principal) or await self._standings.has_room(principal)):
            await self._database.read(lambda c: self._quotas.check(c, principal, waits=is_queued))
        secrets = {}
        if function.secrets:
            secrets = await self._vault.unlock(principal.user, call.prefab_id, function.secrets)
        if isinstance(deadline, Invalid):
            raise deadline
        ends = self._deadline(principal, function, deadline)
        return Ready(
            principal=principal,
            call=call,
            version=version,
            function=function,
            files=files,
            secrets=secrets,
            deadline=ends,
        )

    def check_still(self, ready: Ready) -> None:
        """Asks once more, right before the call is accepted, for what may have changed since it was prepared.

        Raises:
            Unauthenticated: the user has been disabled or deleted meanwhile.
            NotFound: the version has been removed meanwhile.
        """
        self._users.check_principal(ready.principal)
        if not self._catalogue.takes_calls(ready.version):
            name = f"{ready.version.prefab_id}@{ready.version.version}"
            raise NotFound(f"{name} is being removed.", prefab_id=ready.call.prefab_id, version=ready.call.version)

    async def _readable(self, principal: Principal, call: Call) -> dict[str, list[StoredFile]]:
        """The input files, if the caller has the right to all of them."""
        found = iter(await self._library.readable(principal, [url for urls in call.files.values() for url in urls]))
        return {key: [next(found) for _ in urls] for key, urls in call.files.items()}

    def _validator(self, version: Version, function: Function) -> Validator:
        assert version.deployment is not None
        key = version.deployment.key, function.name
        validator = self._validators.get(key)
        if validator is None:
            if len(self._validators) >= MOST_VALIDATORS:  # of versions that are gone, mostly
                self._validators.clear()
            validator = self._validators[key] = Validator(function)
        return validator

    def _deadline(self, principal: Principal, function: Function, deadline: float | None) -> float:
        """The earliest of the caller's deadline, that of the call above, and the limits of function and gateway."""
        moment = time.monotonic()
        left = min(
            deadline - moment if deadline is not None else math.inf,
            self._settings.call_timeout,
            function.timeout or math.inf,
            principal.deadline - time.time() if principal.deadline is not None else math.inf,
        )
        if left <= 0:
            raise DeadlineExceeded("The call's time was over before it began.")
        return moment + left


def _function(version: Version, call: Call) -> Function:
    assert version.manifest is not None
    function = version.manifest.function(call.function_name)
    if function is None:
        names = ", ".join(function.name for function in version.manifest.functions)
        message = f"Prefab {call.prefab_id}@{call.version} has no function {call.function_name[:80]}; it has: {names}."
        raise NotFound(message, prefab_id=call.prefab_id, version=call.version)
    if function.disabled is not None:
        raise Invalid(f"The function {function.name} cannot be called: {function.disabled}")
    return function
