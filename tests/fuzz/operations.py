"""For every operation of the API a request that can succeed, and what its answer adds to the supply."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from fuzz import hostile
from fuzz.wire import Answer, Request, quoted
from fuzz.world import World, form, package

Maker = Callable[[World], Request]
JSON = ("Content-Type", "application/json")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
NAMES = [
    "a.txt",
    "名前.txt",
    "x" * 200,
    "a b.txt",
    "..",
    ".hidden",
    'q".txt',
    "e\u0301.txt",
    "noext",
    "\u202egpj.exe",
    "CON",
]


def request(world: World, operation: str, who: tuple[str, str] | None, document: Any = None, **options: Any) -> Request:
    """A request to an operation such as ``GET /health``."""
    method, _, template = operation.partition(" ")
    query = tuple((name, quoted(str(value))) for name, value in options.pop("query", {}).items() if value is not None)
    parts = {name: quoted(value) for name, value in options.pop("parts", {}).items()}
    headers = () if who is None else (who,)
    made = Request(method=method, template=template, parts=parts, query=query, headers=headers, **options)
    return made if document is None else made.with_json(document).with_header(*JSON)


def _maybe(world: World, *choices: Any) -> Any:
    """One of several values, or none."""
    return world.rng.choice([None, *choices])


def _run(operation: str) -> Maker:
    def make(world: World) -> Request:
        rng = world.rng
        kind = rng.choice(["single", "single", "stream", "batch", "later"])
        call, expected = world.call()
        body: dict[str, Any] = {"calls": [call]}
        if kind == "batch":
            body["calls"] += [world.call()[0] for _ in range(rng.randrange(1, 4))]
        elif rng.random() < 0.8:
            body["stream"] = kind == "stream"
        who = rng.choice([world.key, world.token, world.other_key] if operation.endswith("/run") else [world.key])
        made = request(world, operation, who)
        made = made.with_json(None).with_header(*JSON)
        made = Request(**{**vars(made), "document": body, "body": hostile.dump(body)})
        if kind == "later":
            made = made.with_header("Prefer", rng.choice(["respond-async", "respond-async, wait=5", "wait=5"]))
        if rng.random() < 0.3:
            made = made.with_header("Idempotency-Key", world.name("key"))
        if rng.random() < 0.3:
            made = made.with_header("Cancel-After", rng.choice(["60s", "30000ms"]))
        return Request(**{**vars(made), "expected": expected if kind == "single" else None})

    return make


def _submit(world: World) -> Request:
    call, _ = world.call()
    batch = {"calls": [world.call()[0] for _ in range(world.rng.randrange(1, 4))]}
    body: dict[str, Any] = world.rng.choice([call, batch])
    if world.rng.random() < 0.5:
        body |= {"priority": world.rng.randrange(-10, 11), "retry": {"attempts": 2, "delay": 0.01}}
    made = request(world, "POST /v1/jobs", world.key).with_header(*JSON)
    return Request(**{**vars(made), "document": body, "body": hostile.dump(body)})


def _uploads(operation: str, **fields: str) -> Maker:
    def make(world: World) -> Request:
        chosen = {name: value for name, value in fields.items() if world.rng.random() < 0.7}
        body, kind = form(world.rng.randbytes(world.rng.randrange(3000)), world.rng.choice(NAMES), **chosen)
        return request(world, operation, world.token, body=body).with_header(*kind)

    return make


def _publish(world: World) -> Request:
    prefab_id = world.name("fresh")
    body, kind = form(package(world.folder, prefab_id), "package.tar.gz", settings='{"MODE":"x"}')
    made = request(world, "POST /v1/prefabs", world.key, body=body).with_header(*kind)
    return made.with_header("Accept", "text/event-stream") if world.rng.random() < 0.3 else made


def _object(method: str, kind: str) -> Maker:
    def make(world: World) -> Request:
        if method == "PUT" and world.rng.random() < 0.5:
            url, body = world.last("upload")["part_urls"][0], b"0123456789"
        else:
            url, body = world.some(kind), b"some bytes" if method == "PUT" else None
        parts = urlsplit(url)
        query = tuple((name, value) for name, _, value in (pair.partition("=") for pair in parts.query.split("&")))
        key = parts.path.removeprefix("/objects/")
        return Request(method=method, template="/objects/{key}", parts={"key": key}, query=query, body=body)

    return make


def _agent(method: str) -> Maker:
    def make(world: World) -> Request:
        path = world.rng.choice(["", "ask", "a/b", "teapot"])
        who = world.rng.choice([world.key, world.token])
        made = request(world, f"{method} /v1/agents/{{agent_id}}/{{path}}", who, parts={"agent_id": world.agent})
        made = Request(**{**vars(made), "parts": {**made.parts, "path": path}})
        if method in ("POST", "PUT", "PATCH"):
            return made.with_json({"parameters": {"a": 1}}).with_header(*JSON)
        return made

    return make


def _of(operation: str, by: str = "key", kind: str | None = None, *, used: bool = False, **more: Any) -> Maker:
    """A request that names one thing of the supply, or none."""

    def make(world: World) -> Request:
        who = world.admin if by == "admin" else getattr(world, by) if by else None
        names = [part[1:-1] for part in operation.split("/") if part.startswith("{")]
        things = () if kind is None else world.last(kind) if used else world.some(kind)
        things = things if isinstance(things, tuple) else (things,)
        options = {name: value(world) if callable(value) else value for name, value in more.items()}
        return request(world, operation, who, parts=dict(zip(names, things, strict=False)), **options)

    return make


def _new_key(world: World) -> dict[str, Any]:
    scopes = world.rng.sample(["call", "publish"], world.rng.randrange(1, 3))
    return {
        "user": world.user,
        "scopes": scopes,
        "name": world.rng.choice(NAMES),
        "prefabs": _maybe(world, [world.prefab]),
    }


def _new_quota(world: World) -> dict[str, Any]:
    metric = world.rng.choice(["calls", "concurrent", "seconds", "bytes"])
    limit = world.rng.choice([None, 0, 10**9, 2**53])
    return {"metric": metric, "limit": limit, **({"period": "day"} if metric in ("calls", "seconds") else {})}


def _new_upload(world: World) -> dict[str, Any]:
    area = world.rng.choice(["outputs", "workspace", "inputs"])
    size = world.rng.choice([0, 1, 10, 40 << 20])
    return {"filename": world.rng.choice(NAMES[:4]), "size": size, "area": area}


MAKERS: dict[str, Maker] = {
    "GET /health": _of("GET /health", ""),
    "GET /ready": _of("GET /ready", ""),
    "GET /metrics": _of("GET /metrics", ""),
    "POST /v1/internal/run": _run("POST /v1/internal/run"),
    "POST /v1/run": _run("POST /v1/run"),
    "POST /v1/jobs": _submit,
    "GET /v1/jobs": _of(
        "GET /v1/jobs",
        query=lambda w: {
            "limit": w.rng.randrange(1, 20),
            "status": _maybe(w, "succeeded"),
            "cursor": _maybe(w, w.some("ended")),
        },
    ),
    "GET /v1/jobs/{job_id}": _of("GET /v1/jobs/{job_id}", kind="job", query=lambda w: {"wait": _maybe(w, 1)}),
    "DELETE /v1/jobs/{job_id}": _of("DELETE /v1/jobs/{job_id}", kind="job", used=True),
    "POST /v1/jobs/{job_id}/cancel": _of("POST /v1/jobs/{job_id}/cancel", kind="job", used=True),
    "GET /v1/jobs/{job_id}/result": _of(
        "GET /v1/jobs/{job_id}/result", kind="job", query=lambda w: {"wait": _maybe(w, 1)}
    ),
    "GET /v1/jobs/{job_id}/logs": _of("GET /v1/jobs/{job_id}/logs", kind="job"),
    "GET /v1/jobs/{job_id}/events": _of("GET /v1/jobs/{job_id}/events", kind="job"),
    "POST /internal/files/generate_upload_url": _of(
        "POST /internal/files/generate_upload_url",
        document=lambda w: {"filename": w.rng.choice(NAMES[:4]), "content_type": _maybe(w, "text/plain")},
    ),
    "POST /internal/files/upload": _uploads("POST /internal/files/upload"),
    "POST /internal/files/upload_temp": _uploads("POST /internal/files/upload_temp", ttl="600", session_id="s1"),
    "GET /internal/files/download": _of(
        "GET /internal/files/download", "token", query=lambda w: {"s3_url": w.some("file"), "expires_in": _maybe(w, 60)}
    ),
    "GET /internal/files/list": _of(
        "GET /internal/files/list", "token", query=lambda w: {"limit": w.rng.randrange(1, 9)}
    ),
    "GET /internal/files/list_temp": _of(
        "GET /internal/files/list_temp", "token", query=lambda w: {"session_id": _maybe(w, "s1"), "prefix": ""}
    ),
    "DELETE /internal/files/cleanup_temp": _of(
        "DELETE /internal/files/cleanup_temp", "token", query=lambda w: {"session_id": _maybe(w, "s1")}
    ),
    "GET /v1/files": _of("GET /v1/files", query=lambda w: {"area": _maybe(w, "outputs", "inputs"), "limit": 5}),
    "DELETE /v1/files": _of("DELETE /v1/files", "token", query=lambda w: {"s3_url": w.last("file")}),
    "POST /v1/files/uploads": _of("POST /v1/files/uploads", "token", document=_new_upload),
    "GET /v1/files/uploads/{upload_id}": _of("GET /v1/files/uploads/{upload_id}", "token", "upload_id"),
    "DELETE /v1/files/uploads/{upload_id}": _of(
        "DELETE /v1/files/uploads/{upload_id}", "token", "upload_id", used=True
    ),
    "POST /v1/files/uploads/{upload_id}/complete": _of(
        "POST /v1/files/uploads/{upload_id}/complete",
        "token",
        "whole_upload",
        document=lambda w: _maybe(w, {"sha256": None}),
    ),
    "GET /objects/{key}": _object("GET", "download"),
    "PUT /objects/{key}": _object("PUT", "input"),
    "GET /v1/prefabs": _of(
        "GET /v1/prefabs", query=lambda w: {"q": _maybe(w, "fuzz", w.prefab), "status": _maybe(w, "deployed")}
    ),
    "POST /v1/prefabs": _publish,
    "GET /v1/prefabs/{prefab_id}/{version}/spec": _of("GET /v1/prefabs/{prefab_id}/{version}/spec", kind="version"),
    "GET /v1/public/prefabs/{prefab_id}/functions": _of(
        "GET /v1/public/prefabs/{prefab_id}/functions", "", "prefab", query=lambda w: {"version": _maybe(w, "1.0.0")}
    ),
    "GET /v1/public/prefabs/{prefab_id}/functions/{function_name}": _of(
        "GET /v1/public/prefabs/{prefab_id}/functions/{function_name}", "", "function"
    ),
    "DELETE /v1/prefabs/{prefab_id}/{version}": _of(
        "DELETE /v1/prefabs/{prefab_id}/{version}", kind="version", used=True
    ),
    "PATCH /v1/prefabs/{prefab_id}/{version}": _of(
        "PATCH /v1/prefabs/{prefab_id}/{version}",
        kind="version",
        document=lambda w: {"deprecated": _maybe(w, "use another")},
    ),
    "GET /v1/prefabs/{prefab_id}/{version}/settings": _of(
        "GET /v1/prefabs/{prefab_id}/{version}/settings", kind="version"
    ),
    "PUT /v1/prefabs/{prefab_id}/{version}/settings": _of(
        "PUT /v1/prefabs/{prefab_id}/{version}/settings", kind="version", document={"MODE": "a", "LEVEL": "b"}
    ),
    "PATCH /v1/prefabs/{prefab_id}/{version}/settings": _of(
        "PATCH /v1/prefabs/{prefab_id}/{version}/settings", kind="version", document=lambda w: {"MODE": _maybe(w, "c")}
    ),
    "POST /v1/secrets": _of(
        "POST /v1/secrets",
        document=lambda w: {
            "prefab_id": w.prefab,
            "secret_name": "OTHER",
            "secret_value": hostile.text(w.rng).replace("\0", "") or "v",
        },
    ),
    "GET /v1/secrets": _of("GET /v1/secrets"),
    "GET /v1/secrets/{prefab_id}": _of("GET /v1/secrets/{prefab_id}", kind="prefab"),
    "DELETE /v1/secrets/{prefab_id}/{secret_name}": _of(
        "DELETE /v1/secrets/{prefab_id}/{secret_name}", kind="secret", used=True
    ),
    "POST /v1/keys": _of("POST /v1/keys", "admin", document=_new_key),
    "GET /v1/keys": _of("GET /v1/keys", query=lambda w: {"user": _maybe(w, w.user)}),
    "DELETE /v1/keys/{key_id}": _of("DELETE /v1/keys/{key_id}", "admin", "key", used=True),
    "POST /v1/tokens": _of(
        "POST /v1/tokens", "admin", document=lambda w: {"user": w.user, "agent": _maybe(w, "helper"), "ttl": 60}
    ),
    "POST /v1/auth/convert_to_internal_token": _of("POST /v1/auth/convert_to_internal_token"),
    "POST /v1/signing-keys/rotate": _of("POST /v1/signing-keys/rotate", "admin", document={"revoke_old": False}),
    "GET /v1/quotas": _of("GET /v1/quotas", "admin", query=lambda w: {"user": _maybe(w, w.user)}),
    "PUT /v1/quotas/{user}": _of("PUT /v1/quotas/{user}", "admin", "user", document=_new_quota),
    "GET /v1/usage": _of("GET /v1/usage", query=lambda w: {"by": _maybe(w, "day,agent", "version"), "since": None}),
    "GET /v1/users": _of("GET /v1/users", "admin", query=lambda w: {"q": _maybe(w, "fuzz"), "limit": 5}),
    "GET /v1/users/{user}": _of("GET /v1/users/{user}", "admin", "user"),
    "DELETE /v1/users/{user}": _of("DELETE /v1/users/{user}", "admin", "user", used=True),
    "POST /v1/users/{user}/disable": _of("POST /v1/users/{user}/disable", "admin", "user"),
    "POST /v1/users/{user}/enable": _of("POST /v1/users/{user}/enable", "admin", "user"),
    "GET /v1/audit": _of(
        "GET /v1/audit", "admin", query=lambda w: {"limit": 5, "action": _maybe(w, "key", "key.create")}
    ),
    "GET /v1/agents": _of("GET /v1/agents"),
    "POST /v1/agents": _of(
        "POST /v1/agents", document=lambda w: {"id": w.name("a"), "url": w.agent_url, "check": w.rng.random() < 0.5}
    ),
    "GET /v1/agents/{agent_id}": _of("GET /v1/agents/{agent_id}", kind="agent"),
    "DELETE /v1/agents/{agent_id}": _of("DELETE /v1/agents/{agent_id}", kind="agent", used=True),
    **{f"{method} /v1/agents/{{agent_id}}/{{path}}": _agent(method) for method in METHODS},
}
"""By operation."""


def learn(world: World, request: Request, answer: Answer) -> None:
    """Keeps what a successful answer made, so that others name it and so that it goes again."""
    kinds = {
        "POST /v1/jobs": ("job", "job_id"),
        "POST /v1/agents": ("agent", "id"),
        "POST /v1/files/uploads": ("upload_id", "upload_id"),
    }
    kind, member = kinds.get(f"{request.method} {request.template}", ("", ""))
    if answer.ok and kind and answer.kind == "application/json":
        world.keep(kind, answer.json()[member])
