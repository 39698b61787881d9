"""The tenancy matrix: what every route answers to every kind of caller. A route without a line here fails."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fastapi.routing import iter_route_contexts
from gateways import running_gateway
from tenancy import COLUMNS, PREFAB, World, call, wanted_secret, wanted_upload
from web_agent import WebAgent

from gateway_server import errors
from gateway_server.api.paths import REST
from gateway_server.app import Gateway, create_app
from gateway_server.settings import Settings

MATRIX = """
method path                       unknown stranger namesake sibling inside publisher caller limited agent owner admin

GET    /health                                        ok ok ok ok ok ok ok ok ok ok ok
GET    /ready                                         ok ok ok ok ok ok ok ok ok ok ok
GET    /metrics                                       ok ok ok ok ok ok ok ok ok ok ok
GET    /openapi.json                                  ok ok ok ok ok ok ok ok ok ok ok
GET    /docs                                          ok ok ok ok ok ok ok ok ok ok ok
GET    /docs/{name}                                  ok ok ok ok ok ok ok ok ok ok ok
GET    /v1/public/prefabs/{prefab_id}/functions       ok ok ok ok ok ok ok ok ok ok ok
GET    /v1/public/prefabs/{prefab_id}/functions/{function_name}  ok ok ok ok ok ok ok ok ok ok ok
GET    /objects/{key}                                 ok ok ok ok ok ok ok ok ok ok ok
PUT    /objects/{key}                                 ok ok ok ok ok ok ok ok ok ok ok

POST   /v1/internal/run                               401 own own ok  ok  403 ok  403 ok  ok  own
POST   /v1/run                                        401 own own ok  ok  403 ok  403 ok  ok  own
POST   /v1/jobs                                       401 own own ok  403 403 ok  403 ok  ok  own
GET    /v1/jobs                                       401 own own ok  403 403 ok  own ok  ok  own
GET    /v1/jobs/{job_id}                              401 job job ok  job job ok  job ok  ok  ok
GET    /v1/jobs/{job_id}/result                       401 job job ok  job job ok  job ok  ok  ok
GET    /v1/jobs/{job_id}/logs                         401 job job ok  job job ok  job ok  ok  ok
GET    /v1/jobs/{job_id}/events                       401 job job ok  job job ok  job ok  ok  ok
DELETE /v1/jobs/{job_id}                              401 job job ok  job job ok  job ok  ok  ok
POST   /v1/jobs/{job_id}/cancel                       401 job job ok  job job ok  job ok  ok  ok

POST   /internal/files/generate_upload_url            401 own own ok  ok  403 ok  ok  ok  ok  own
POST   /internal/files/upload                         401 400 own ok  ok  403 400 400 ok  400 400
POST   /internal/files/upload_temp                    401 400 own ok  ok  403 400 400 ok  400 400
GET    /internal/files/download                       401 403 403 ok  ok  403 ok  ok  ok  ok  403
GET    /internal/files/list                           401 400 own own 403 403 400 400 ok  400 400
GET    /internal/files/list_temp                      401 400 own own 403 403 400 400 ok  400 400
DELETE /internal/files/cleanup_temp                   401 400 own own 403 403 400 400 ok  400 400
GET    /v1/files                                      401 own own ok  403 403 ok  ok  ok  ok  own
DELETE /v1/files                                      401 403 403 403 403 403 ok  ok  ok  ok  403
POST   /v1/files/uploads                              401 own own ok  ok  403 ok  ok  ok  ok  own
GET    /v1/files/uploads/{upload_id}                  401 file file file file 403 file file ok file file
POST   /v1/files/uploads/{upload_id}/complete         401 file file file file 403 file file ok file file
DELETE /v1/files/uploads/{upload_id}                  401 file file file file 403 file file ok file file

GET    /v1/prefabs                                    401 ok  ok  ok  403 ok  ok  ok  ok  ok  ok
POST   /v1/prefabs                                    401 403 403 403 403 ok  403 403 403 ok  ok
GET    /v1/prefabs/{prefab_id}/{version}/spec         401 ok  ok  ok  403 ok  ok  ok  ok  ok  ok
DELETE /v1/prefabs/{prefab_id}/{version}              401 403 403 403 403 ok  403 403 403 ok  ok
PATCH  /v1/prefabs/{prefab_id}/{version}              401 403 403 403 403 ok  403 403 403 ok  ok
GET    /v1/prefabs/{prefab_id}/{version}/settings     401 403 403 403 403 ok  403 403 403 ok  ok
PUT    /v1/prefabs/{prefab_id}/{version}/settings     401 403 403 403 403 ok  403 403 403 ok  ok
PATCH  /v1/prefabs/{prefab_id}/{version}/settings     401 403 403 403 403 ok  403 403 403 ok  ok

POST   /v1/secrets                                    401 own own ok  403 403 ok  403 ok  ok  own
GET    /v1/secrets                                    401 own own ok  403 403 ok  own ok  ok  own
GET    /v1/secrets/{prefab_id}                        401 own own ok  403 403 ok  403 ok  ok  own
DELETE /v1/secrets/{prefab_id}/{secret_name}          401 404 404 ok  403 403 ok  403 ok  ok  404

POST   /v1/keys                                       401 403 403 403 403 403 403 403 403 403 ok
GET    /v1/keys                                       401 own 403 403 403 ok  ok  ok  403 ok  ok
DELETE /v1/keys/{key_id}                              401 404 403 403 403 ok  ok  ok  403 ok  ok
POST   /v1/tokens                                     401 403 401 401 401 403 403 403 401 403 ok
POST   /v1/auth/convert_to_internal_token             401 own 401 401 401 403 ok  ok  401 ok  own
POST   /v1/signing-keys/rotate                        401 403 403 403 403 403 403 403 403 403 ok
GET    /v1/quotas                                     401 own own ok  403 ok  ok  ok  ok  ok  own
PUT    /v1/quotas/{user}                              401 403 403 403 403 403 403 403 403 403 ok
GET    /v1/usage                                      401 own own ok  403 ok  ok  ok  ok  ok  ok
GET    /v1/users                                      401 403 403 403 403 403 403 403 403 403 ok
GET    /v1/users/{user}                               401 403 403 ok  403 ok  ok  ok  ok  ok  ok
DELETE /v1/users/{user}                               401 403 403 403 403 403 403 403 403 403 ok
POST   /v1/users/{user}/disable                       401 403 403 403 403 403 403 403 403 403 ok
POST   /v1/users/{user}/enable                        401 403 403 403 403 403 403 403 403 403 ok
GET    /v1/audit                                      401 403 403 403 403 403 403 403 403 403 ok

GET    /v1/agents                                     401 own own ok  403 ok  ok  ok  ok  ok  ok
POST   /v1/agents                                     401 403 403 403 403 ok  403 ok  403 ok  ok
GET    /v1/agents/{agent_id}                          401 own own ok  403 ok  ok  ok  ok  ok  ok
DELETE /v1/agents/{agent_id}                          401 403 403 403 403 ok  403 ok  403 ok  ok
GET    /v1/agents/{agent_id}/{path}                   401 own own ok  403 403 ok  ok  ok  ok  own
HEAD   /v1/agents/{agent_id}/{path}                   401 own own ok  403 403 ok  ok  ok  ok  own
POST   /v1/agents/{agent_id}/{path}                   401 own own ok  403 403 ok  ok  ok  ok  own
PUT    /v1/agents/{agent_id}/{path}                   401 own own ok  403 403 ok  ok  ok  ok  own
PATCH  /v1/agents/{agent_id}/{path}                   401 own own ok  403 403 ok  ok  ok  ok  own
DELETE /v1/agents/{agent_id}/{path}                   401 own own ok  403 403 ok  ok  ok  ok  own
OPTIONS /v1/agents/{agent_id}/{path}                  401 own own ok  403 403 ok  ok  ok  ok  own
"""
"""ok: the answer; own: an answer in which nothing of ann's is; else a refusal, by the words of `REFUSALS`."""
REFUSALS = {
    "400": errors.MissingAgentContext,
    "401": errors.Unauthenticated,
    "403": errors.PermissionDenied,
    "404": errors.NotFound,
    "file": errors.FileNotFound,
    "job": errors.JobNotFound,
}
ENDING = (("DELETE", "/v1/jobs/{job_id}"), ("POST", "/v1/jobs/{job_id}/cancel"))
"""What takes a moment after it has been answered."""
UNDESCRIBED = ("/openapi.json", "/docs")
"""What /openapi.json leaves out: itself and what shows it."""
Route = tuple[str, str]


def read_matrix() -> dict[Route, dict[str, str]]:
    head, *lines = (line.split() for line in MATRIX.splitlines() if line)
    assert tuple(head[2:]) == COLUMNS
    return {(method, path): dict(zip(COLUMNS, cells, strict=True)) for method, path, *cells in lines}


EXPECTED = read_matrix()


@dataclass
class Ask:
    """A request for something of ann's: the address, and what else httpx sends."""

    path: str
    options: dict[str, Any]


def ask(path: str, **options: Any) -> Ask:
    return Ask(path, options)


def of_file(path: str, url: str) -> Ask:
    return ask(f"{path}?s3_url={quote(url)}")


def form(**fields: str) -> dict[str, Any]:
    return {"files": {"file": ("mine.txt", b"mine")}, "data": fields}


def package(world: World) -> dict[str, Any]:
    return {"files": {"file": ("p.tar.gz", world.package(PREFAB, f"3.0.{world.number()}"))}}


RUN = {"calls": [call("hello")]}
PLAIN = {"json": {"some": "body"}}
REQUESTS: dict[Route, Callable[[World], Ask]] = {
    ("GET", "/health"): lambda w: ask("/health"),
    ("GET", "/ready"): lambda w: ask("/ready"),
    ("GET", "/metrics"): lambda w: ask("/metrics"),
    ("GET", "/openapi.json"): lambda w: ask("/openapi.json"),
    ("GET", "/docs"): lambda w: ask("/docs"),
    ("GET", "/docs/{name}"): lambda w: ask("/docs/start.js"),
    ("GET", "/v1/public/prefabs/{prefab_id}/functions"): lambda w: ask(f"/v1/public/prefabs/{PREFAB}/functions"),
    ("GET", "/v1/public/prefabs/{prefab_id}/functions/{function_name}"): lambda w: ask(
        f"/v1/public/prefabs/{PREFAB}/functions/hello"
    ),
    ("GET", "/objects/{key}"): lambda w: ask(w.signed_get()),
    ("PUT", "/objects/{key}"): lambda w: ask(w.signed_put(), content=b"words of ann"),
    ("POST", "/v1/internal/run"): lambda w: ask("/v1/internal/run", json=RUN),
    ("POST", "/v1/run"): lambda w: ask("/v1/run", json=RUN),
    ("POST", "/v1/jobs"): lambda w: ask("/v1/jobs", json=call("hello")),
    ("GET", "/v1/jobs"): lambda w: ask("/v1/jobs"),
    ("GET", "/v1/jobs/{job_id}"): lambda w: ask(f"/v1/jobs/{w.ended}"),
    ("GET", "/v1/jobs/{job_id}/result"): lambda w: ask(f"/v1/jobs/{w.ended}/result"),
    ("GET", "/v1/jobs/{job_id}/logs"): lambda w: ask(f"/v1/jobs/{w.ended}/logs"),
    ("GET", "/v1/jobs/{job_id}/events"): lambda w: ask(f"/v1/jobs/{w.ended}/events"),
    ("DELETE", "/v1/jobs/{job_id}"): lambda w: ask(f"/v1/jobs/{w.job()}"),
    ("POST", "/v1/jobs/{job_id}/cancel"): lambda w: ask(f"/v1/jobs/{w.job()}/cancel"),
    ("POST", "/internal/files/generate_upload_url"): lambda w: ask(
        "/internal/files/generate_upload_url", json={"filename": "mine.txt"}
    ),
    ("POST", "/internal/files/upload"): lambda w: ask("/internal/files/upload", **form()),
    ("POST", "/internal/files/upload_temp"): lambda w: ask("/internal/files/upload_temp", **form(ttl="60")),
    ("GET", "/internal/files/download"): lambda w: of_file("/internal/files/download", w.kept),
    ("GET", "/internal/files/list"): lambda w: ask("/internal/files/list"),
    ("GET", "/internal/files/list_temp"): lambda w: ask("/internal/files/list_temp"),
    ("DELETE", "/internal/files/cleanup_temp"): lambda w: ask("/internal/files/cleanup_temp"),
    ("GET", "/v1/files"): lambda w: ask("/v1/files"),
    ("DELETE", "/v1/files"): lambda w: of_file("/v1/files", w.file()),
    ("POST", "/v1/files/uploads"): lambda w: ask("/v1/files/uploads", json=wanted_upload("inputs")),
    ("GET", "/v1/files/uploads/{upload_id}"): lambda w: ask(f"/v1/files/uploads/{w.upload()}"),
    ("POST", "/v1/files/uploads/{upload_id}/complete"): lambda w: ask(
        f"/v1/files/uploads/{w.upload(arrived=True)}/complete"
    ),
    ("DELETE", "/v1/files/uploads/{upload_id}"): lambda w: ask(f"/v1/files/uploads/{w.upload()}"),
    ("GET", "/v1/prefabs"): lambda w: ask("/v1/prefabs"),
    ("POST", "/v1/prefabs"): lambda w: ask("/v1/prefabs", **package(w)),
    ("GET", "/v1/prefabs/{prefab_id}/{version}/spec"): lambda w: ask(f"/v1/prefabs/{PREFAB}/1.0.0/spec"),
    ("DELETE", "/v1/prefabs/{prefab_id}/{version}"): lambda w: ask(f"/v1/prefabs/{PREFAB}/{w.version()}"),
    ("PATCH", "/v1/prefabs/{prefab_id}/{version}"): lambda w: ask(
        f"/v1/prefabs/{PREFAB}/1.0.0", json={"deprecated": f"since {w.number()}"}
    ),
    ("GET", "/v1/prefabs/{prefab_id}/{version}/settings"): lambda w: ask(f"/v1/prefabs/{PREFAB}/1.0.0/settings"),
    ("PUT", "/v1/prefabs/{prefab_id}/{version}/settings"): lambda w: ask(
        f"/v1/prefabs/{PREFAB}/1.0.0/settings", json={f"A_{w.number()}": "1"}
    ),
    ("PATCH", "/v1/prefabs/{prefab_id}/{version}/settings"): lambda w: ask(
        f"/v1/prefabs/{PREFAB}/1.0.0/settings", json={f"B_{w.number()}": "1"}
    ),
    ("POST", "/v1/secrets"): lambda w: ask("/v1/secrets", json=wanted_secret("MINE")),
    ("GET", "/v1/secrets"): lambda w: ask("/v1/secrets"),
    ("GET", "/v1/secrets/{prefab_id}"): lambda w: ask(f"/v1/secrets/{PREFAB}"),
    ("DELETE", "/v1/secrets/{prefab_id}/{secret_name}"): lambda w: ask(f"/v1/secrets/{PREFAB}/{w.secret()}"),
    ("POST", "/v1/keys"): lambda w: ask("/v1/keys", json={"user": "ann"}),
    ("GET", "/v1/keys"): lambda w: ask("/v1/keys"),
    ("DELETE", "/v1/keys/{key_id}"): lambda w: ask(f"/v1/keys/{w.key('ann', 'call')['id']}"),
    ("POST", "/v1/tokens"): lambda w: ask("/v1/tokens", json={"user": "ann", "agent": "helper"}),
    ("POST", "/v1/auth/convert_to_internal_token"): lambda w: ask("/v1/auth/convert_to_internal_token"),
    ("POST", "/v1/signing-keys/rotate"): lambda w: ask("/v1/signing-keys/rotate"),
    ("GET", "/v1/quotas"): lambda w: ask("/v1/quotas"),
    ("PUT", "/v1/quotas/{user}"): lambda w: ask("/v1/quotas/ann", json={"limit": 50_000}),
    ("GET", "/v1/usage"): lambda w: ask("/v1/usage?by=user,prefab"),
    ("GET", "/v1/users"): lambda w: ask("/v1/users"),
    ("GET", "/v1/users/{user}"): lambda w: ask("/v1/users/ann"),
    ("DELETE", "/v1/users/{user}"): lambda w: ask(f"/v1/users/{w.user()}"),
    ("POST", "/v1/users/{user}/disable"): lambda w: ask(f"/v1/users/{w.user()}/disable"),
    ("POST", "/v1/users/{user}/enable"): lambda w: ask(f"/v1/users/{w.disabled_user()}/enable"),
    ("GET", "/v1/audit"): lambda w: ask("/v1/audit"),
    ("GET", "/v1/agents"): lambda w: ask("/v1/agents"),
    ("POST", "/v1/agents"): lambda w: ask("/v1/agents", json={"id": w.agent_id, "timeout": w.number(), "check": False}),
    ("GET", "/v1/agents/{agent_id}"): lambda w: ask(f"/v1/agents/{w.agent_id}"),
    ("DELETE", "/v1/agents/{agent_id}"): lambda w: ask(f"/v1/agents/{w.registered()}"),
    **{
        (method, "/v1/agents/{agent_id}/{path}"): lambda w: ask(f"/v1/agents/{w.agent_id}/any", **PLAIN)
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    },
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    scratch = tmp_path_factory.mktemp("tenancy")
    with (
        WebAgent() as web_agent,
        running_gateway(scratch / "data") as gateway,
        closing(World(gateway, web_agent, scratch)) as made,
    ):
        yield made.fill()


@pytest.mark.parametrize("route", EXPECTED, ids=" ".join)
def test_everybody_gets_what_is_theirs(world: World, route: Route) -> None:
    method, expected = route[0], EXPECTED[route]
    callers = [(name, headers, expected["unknown"]) for name, headers in world.unknown.items()]
    callers += [(name, world.known[name], expected[name]) for name in COLUMNS[1:]]
    wanted = REQUESTS[route](world)
    before = world.settled()
    for name, headers, cell in callers:
        if cell in REFUSALS:
            answer = world.send(headers, method, wanted.path, **wanted.options)
            told = answer.json()["detail"]["error_code"] if method != "HEAD" else REFUSALS[cell].code
            assert (answer.status_code, told) == (REFUSALS[cell].status, REFUSALS[cell].code), f"{name}: {answer.text}"
            assert "words of ann" not in answer.text
    assert world.state() == before, "a refused request has changed something"
    for name, headers, cell in callers:
        if cell not in REFUSALS:
            wanted = REQUESTS[route](world)
            answer = world.send(headers, method, wanted.path, **wanted.options)
            assert answer.is_success, f"{name}: {answer.status_code} {answer.text}"
            if route in ENDING:
                world.do("admin", "GET", f"/v1/jobs/{answer.json()['job_id']}?wait=30")
            if cell == "own":
                assert not [mark for mark in world.marks if mark in answer.text], f"{name}: {answer.text}"


def test_an_agent_lists_no_files_of_another_agent(world: World) -> None:
    files = {who: world.do(who, "GET", "/v1/files")["files"] for who in ("agent", "sibling", "owner")}
    agents = {who: {file["agent"] for file in found} for who, found in files.items()}
    assert agents["agent"] == {None, "helper"}
    assert agents["sibling"] <= {None, "other"}
    assert agents["agent"] | agents["sibling"] <= agents["owner"]  # theirs is what both have


def test_every_route_has_its_line(tmp_path: Path) -> None:
    gateway = create_app(Settings(data=tmp_path / "data"))
    framework = {
        (method, found.path.replace(f"{REST}}}", "}"))
        for found in iter_route_contexts(gateway.web.routes)
        for method in found.methods or ()
        if method != "HEAD" or "agents" in found.path  # which is a GET without its body
    }
    paths = gateway.web.openapi()["paths"]
    described = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    undescribed = {route for route in EXPECTED if route[1].startswith(UNDESCRIBED)}
    assert set(EXPECTED) == described | undescribed
    assert framework <= set(EXPECTED)
    assert {path for _, path in set(EXPECTED) - framework} == {
        "/v1/internal/run",
        "/v1/run",
        "/v1/jobs",
        "/v1/jobs/{job_id}/events",
        "/objects/{key}",
    }


def test_nothing_else_is_served_before_the_framework() -> None:
    tree = ast.parse(textwrap.dedent(inspect.getsource(Gateway._bare)))
    tests = [ast.unparse(node.test) for node in ast.walk(tree) if isinstance(node, ast.If)]
    assert tests == [
        "path in PATHS",
        "path == SUBMIT_PATH and scope['method'] != 'GET'",
        "EVENTS_PATH.match(path)",
        "path.startswith('/objects/')",
    ]
