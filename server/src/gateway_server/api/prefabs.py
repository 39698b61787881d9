"""The catalogue over HTTP: what there is, and for publishers how it gets there."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from gateway_server.api.auth import Identify
from gateway_server.api.bodies import WholeBody
from gateway_server.api.publishing import INCOMING, Environment, PrefabAnswer, add_publishing, checked, describe
from gateway_server.errors import Invalid, NotFound, Problem
from gateway_server.identity import access
from gateway_server.models import Principal
from gateway_server.prefabs.catalogue import Catalogue
from gateway_server.prefabs.functions import Function
from gateway_server.prefabs.problems import is_plain
from gateway_server.prefabs.publisher import Publisher
from gateway_server.prefabs.versions import DEPLOYED, Status, Version
from gateway_server.settings import Settings


def _on_one_line(text: str) -> str:
    if not is_plain(text):
        raise PydanticCustomError("not_plain", "must be one line, without control characters")
    return text


Reason = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_on_one_line)]


class PrefabList(BaseModel):
    """Versions, newest first."""

    prefabs: list[PrefabAnswer]


class PrefabSpec(BaseModel):
    """A version with its functions as the manifest has them."""

    id: str
    version: str
    name: str
    description: str
    deprecated: str | None = Field(None, description="There if it is: what to use instead.")
    yanked: str | None = Field(None, description="There if it was: why nobody should begin to use it.")
    functions: list[dict[str, Any]]


class FunctionName(BaseModel):
    """One function of a prefab."""

    name: str
    description: str


class Marks(BaseModel):
    """What is said of a version; what is left out stays, null takes it back."""

    model_config = ConfigDict(extra="forbid")

    deprecated: Reason | None = Field(None, description="What to use instead.")
    yanked: Reason | None = Field(None, description="Why nobody should begin to use it.")


class SettingNames(BaseModel):
    """Which settings a version has; values are never told."""

    names: list[str]


def routes(*, catalogue: Catalogue, publisher: Publisher, identify: Identify, settings: Settings) -> APIRouter:
    """The routes below /v1/prefabs and /v1/public/prefabs."""
    router = APIRouter(prefix="/v1", tags=["prefabs"], route_class=WholeBody)
    _add_reading(router, catalogue, identify)
    _add_public(router, catalogue)
    add_publishing(router, publisher, identify, settings.data / INCOMING)
    _add_changing(router, catalogue, identify)
    return router


def _add_reading(router: APIRouter, catalogue: Catalogue, identify: Identify) -> None:
    caller = Depends(identify)

    @router.get("/prefabs")
    async def list_prefabs(
        status: Annotated[Status | None, Query(description="Only those that are building, deployed or failed.")] = None,
        q: Annotated[
            str | None, Query(description="Words: the newest version of every prefab that has all.", max_length=200)
        ] = None,
        principal: Principal = caller,
    ) -> PrefabList:
        """Every version, newest first. What is not deployed is shown to its publisher only."""
        access.require_person(principal)
        if q is not None:
            if status not in (None, DEPLOYED):
                message = f"must be left out or {DEPLOYED}: words find nothing else"
                raise Invalid(f"The status {message}.", [Problem("/status", message)])
            return PrefabList(prefabs=[describe(version) for version in await catalogue.search(q)])
        shown = [
            version
            for version in await catalogue.list(status)
            if version.status == DEPLOYED or access.may_change(principal, version.owner)
        ]
        return PrefabList(prefabs=[describe(version) for version in shown])

    @router.get("/prefabs/{prefab_id}/{version}/spec", response_model_exclude_unset=True)
    async def show_spec(prefab_id: str, version: str, principal: Principal = caller) -> PrefabSpec:
        """A version with its functions; the version `latest` is the newest that was not yanked."""
        access.require_person(principal)
        found = await catalogue.find(prefab_id, version)
        assert found.manifest is not None
        return PrefabSpec(
            id=found.prefab_id,
            version=found.version,
            name=found.manifest.name,
            description=found.manifest.description,
            functions=[dict(function.raw) for function in found.manifest.functions],
            **{mark: why for mark in ("deprecated", "yanked") if (why := getattr(found, mark)) is not None},
        )


def _add_public(router: APIRouter, catalogue: Catalogue) -> None:
    newest = Query(description="Not given: the newest.")

    @router.get("/public/prefabs/{prefab_id}/functions")
    async def list_functions(prefab_id: str, version: Annotated[str | None, newest] = None) -> list[FunctionName]:
        """The functions that can be called. Needs no identity."""
        functions = await _functions(catalogue, prefab_id, version)
        return [FunctionName(name=function.name, description=function.description) for function in functions]

    @router.get("/public/prefabs/{prefab_id}/functions/{function_name}")
    async def show_function(
        prefab_id: str, function_name: str, version: Annotated[str | None, newest] = None
    ) -> dict[str, Any]:
        """A function as the manifest has it. Needs no identity."""
        for function in await _functions(catalogue, prefab_id, version):
            if function.name == function_name:
                return dict(function.raw)
        message = f"Prefab {prefab_id} has no function {function_name[:100]}."
        raise NotFound(message, prefab_id=prefab_id, version=version)


def _add_changing(router: APIRouter, catalogue: Catalogue, identify: Identify) -> None:
    caller = Depends(identify)
    place = "/prefabs/{prefab_id}/{version}"

    @router.delete(place, status_code=204)
    async def remove_prefab(prefab_id: str, version: str, principal: Principal = caller) -> None:
        """Takes a version out of the catalogue. Needs the scope publish; only its owner or an admin may."""
        await catalogue.remove(prefab_id, version, principal)

    @router.patch(place)
    async def mark_prefab(prefab_id: str, version: str, marks: Marks, principal: Principal = caller) -> PrefabAnswer:
        """Says that a version is deprecated or yanked, or takes that back. Needs the scope publish.

        Calls of such a version still run, with a warning in their answer; `latest` passes a yanked one over.
        """
        said = marks.model_dump(exclude_unset=True)
        if not said:
            message = "send deprecated or yanked: the reason, or null to take it back"
            raise Invalid(f"Nothing is said of the version: {message}.", [Problem("/body", message)])
        return describe(await catalogue.mark(prefab_id, version, principal, said))

    @router.get(f"{place}/settings")
    async def list_settings(prefab_id: str, version: str, principal: Principal = caller) -> SettingNames:
        """The names of the settings."""
        found = await catalogue.find(prefab_id, version)
        access.may_publish(principal, found.owner, prefab_id)
        return names(found)

    @router.put(f"{place}/settings")
    async def replace_settings(
        prefab_id: str, version: str, settings: Environment, principal: Principal = caller
    ) -> SettingNames:
        """Replaces all settings: environment, not secret, that the code sees from its import on."""
        return names(await catalogue.set_settings(prefab_id, version, checked(settings), principal))

    @router.patch(f"{place}/settings")
    async def change_settings(
        prefab_id: str, version: str, changes: dict[str, str | None], principal: Principal = caller
    ) -> SettingNames:
        """Sets some of the settings and leaves the others; null removes one."""
        checked({name: value for name, value in changes.items() if value is not None})
        return names(await catalogue.change_settings(prefab_id, version, changes, principal))

    def names(found: Version) -> SettingNames:
        assert found.deployment is not None
        return SettingNames(names=sorted(found.deployment.settings))


async def _functions(catalogue: Catalogue, prefab_id: str, version: str | None) -> list[Function]:
    found = await (catalogue.newest(prefab_id) if version is None else catalogue.find(prefab_id, version))
    assert found.manifest is not None
    return [function for function in found.manifest.functions if function.disabled is None]
