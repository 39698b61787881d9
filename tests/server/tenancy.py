"""A gateway with somebody's things in it, and everybody who might want them."""

import base64
import itertools
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import jwt
from gateways import Gateway, pack, until
from packages import write_package
from web_agent import WebAgent

PREFAB, OTHER_PREFAB, SECRET = "ann-prefab", "other-prefab", "ANN_SECRET"
SOURCE = """
import os
import time

def hello():
    print("words of ann")
    return "hello"

def token():
    yield {"type": "content", "data": os.environ["X_INTERNAL_TOKEN"]}
    time.sleep(150)

def sleeps():
    time.sleep(150)
"""
COLUMNS = (
    "unknown",  # nobody, or somebody with a proof that does not count: see World.unknown
    "stranger",  # another user's key
    "namesake",  # another user's agent, of the same id
    "sibling",  # another agent of the same user
    "inside",  # code inside a call that the agent made
    "publisher",  # the user's key for publishing alone
    "caller",  # the user's key for calls alone
    "limited",  # the user's key for another prefab
    "agent",  # the user's agent, whose things they are
    "owner",  # the user's key
    "admin",
)
Headers = dict[str, str]
_VOLATILE = {"job_queue": ("lease_until",)}


def call(function: str) -> dict[str, Any]:
    return {"prefab_id": PREFAB, "version": "1.0.0", "function_name": function, "inputs": {"parameters": {}}}


class World:
    """What ann has, and what everybody says who they are with. Most of ann's is her agent's, called helper."""

    def __init__(self, gateway: Gateway, web_agent: WebAgent, scratch: Path) -> None:
        self.gateway = gateway
        self.web_agent = web_agent
        self._scratch = scratch
        self._numbers = itertools.count(1)
        self._http = httpx.Client(base_url=gateway.url, timeout=60, trust_env=False)
        self.known: dict[str, Headers] = {"admin": _bearer(gateway.admin_key)}
        self.unknown: dict[str, Headers] = {"no proof": {}}
        self._jobs: list[str] = []
        self._streams: list[tuple[httpx.Response, Iterator[str]]] = []

    def fill(self) -> "World":
        """Begins; close it in any case."""
        expiring = self.token("ann", "helper", ttl=1)
        self._publish()
        self._introduce()
        self._fill()
        self._disguise(expiring)
        return self

    def close(self) -> None:
        for job in self._jobs:
            self.do("admin", "DELETE", f"/v1/jobs/{job}")
        for stream, _ in self._streams:
            stream.close()
        self._http.close()

    def send(self, headers: Headers, method: str, path: str, **options: Any) -> httpx.Response:
        return self._http.request(method, path, headers={**options.pop("headers", {}), **headers}, **options)

    def do(self, who: str, method: str, path: str, **options: Any) -> Any:
        """What somebody is answered who must not be refused."""
        answer = self.send(self.known[who], method, path, **options)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content and "json" in answer.headers["content-type"] else answer.text

    def settled(self) -> list[Any]:
        """The state when what was accepted and what was cancelled before has come to its end."""
        looks = [self.state()]

        def is_still() -> bool:
            has_ended = not self._ending()  # asked first: what ends behind a look is not in it
            looks.append(self.state())
            return has_ended and looks[-1] == looks[-2] == looks[-3 if len(looks) > 2 else 0]

        until(is_still, 30, "quiet")
        return looks[-1]

    def _ending(self) -> list[str]:
        jobs = self.do("admin", "GET", "/v1/jobs?all_users=true&limit=1000")["jobs"]
        lasting = ("sleeps", "token")
        return [job["id"] for job in jobs if job["ended_at"] is None and job["function_name"] not in lasting]

    def state(self) -> list[Any]:
        """All that the gateway keeps: the rows of every table, every object, and how often the agent was called."""
        self.do("admin", "GET", "/v1/jobs")  # whoever asks finds every record: they are in the database then
        data, found = self.gateway.data, []
        with closing(sqlite3.connect(f"file:{data / 'gateway.db'}?mode=ro", uri=True)) as database:
            for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
                kept = [f'"{column}"' for column in columns if column not in _VOLATILE.get(table, ())]
                rows = database.execute(f"SELECT {', '.join(kept)} FROM {table}").fetchall()
                found.append((table, sorted(map(repr, rows))))
        objects = (path for path in (data / "objects").rglob("*") if path.is_file())
        return [*found, sorted((str(path), path.stat().st_size) for path in objects), self.web_agent.requests]

    # What may be lost, made anew each time.

    def number(self) -> int:
        return next(self._numbers)

    def key(self, user: str, *scopes: str, prefabs: list[str] | None = None) -> dict[str, Any]:
        return self.do("admin", "POST", "/v1/keys", json={"user": user, "scopes": scopes, "prefabs": prefabs})

    def token(self, user: str, agent: str | None, ttl: int = 3600) -> str:
        wanted = {"user": user, "agent": agent, "ttl": ttl}
        return self.do("admin", "POST", "/v1/tokens", json=wanted)["internal_token"]

    def user(self) -> str:
        self.key(name := f"user-{self.number()}", "call")
        return name

    def disabled_user(self) -> str:
        self.do("admin", "POST", f"/v1/users/{(name := self.user())}/disable")
        return name

    def secret(self) -> str:
        name = f"{SECRET}_{self.number()}"
        self.do("owner", "POST", "/v1/secrets", json=wanted_secret(name))
        return name

    def upload(self, *, arrived: bool = False) -> str:
        begun = self.do("agent", "POST", "/v1/files/uploads", json=wanted_upload("workspace"))
        if arrived:
            assert self._http.put(begun["part_urls"][0], content=b"x").is_success
        return begun["upload_id"]

    def file(self, area: str = "upload_temp") -> str:
        return self.do("agent", "POST", f"/internal/files/{area}", files={"file": ("ann.txt", b"words of ann")})[
            "s3_url"
        ]

    def signed_get(self) -> str:
        return path_of(self.do("agent", "GET", f"/internal/files/download?s3_url={quote(self.kept)}")["presigned_url"])

    def signed_put(self) -> str:
        wanted = {"filename": "ann.txt"}
        return path_of(self.do("agent", "POST", "/internal/files/generate_upload_url", json=wanted)["upload_url"])

    def job(self) -> str:
        """One that runs until somebody ends it."""
        job = self.do("owner", "POST", "/v1/jobs", json=call("sleeps"))["job_id"]
        self._jobs.append(job)
        until(lambda: self.do("owner", "GET", f"/v1/jobs/{job}")["status"] == "running", 30, "the job's start")
        return job

    def version(self) -> str:
        version = f"2.0.{self.number()}"
        self.do("owner", "POST", "/v1/prefabs", files={"file": ("p.tar.gz", self.package(PREFAB, version))})
        return version

    def package(self, prefab_id: str, version: str) -> bytes:
        folder = self._scratch / f"{prefab_id}-{version}"
        return pack(write_package(folder, SOURCE, prefab_id=prefab_id, version=version))

    def registered(self) -> str:
        name = f"ann-agent-{self.number()}"
        self.do("owner", "POST", "/v1/agents", json={"id": name, "url": self.web_agent.url, "check": False})
        return name

    # How it begins.

    def _publish(self) -> None:
        key = self.key("ann", "call", "publish")
        self.known["owner"], self.key_id = _bearer(key["key"]), key["id"]
        for prefab_id in (PREFAB, OTHER_PREFAB):
            self.do("owner", "POST", "/v1/prefabs", files={"file": ("p.tar.gz", self.package(prefab_id, "1.0.0"))})

    def _introduce(self) -> None:
        keys = {
            "stranger": self.key("bob", "call", "publish"),
            "publisher": self.key("ann", "publish"),
            "caller": self.key("ann", "call"),
            "limited": self.key("ann", "call", "publish", prefabs=[OTHER_PREFAB]),
        }
        self.known |= {name: _bearer(key["key"]) for name, key in keys.items()}
        self.known["agent"] = _internal(self.token("ann", "helper"))
        self.known["sibling"] = _internal(self.token("ann", "other"))
        self.known["namesake"] = _internal(self.token("bob", "helper"))
        self.known["inside"] = _internal(self._token_of_a_call())

    def _token_of_a_call(self) -> str:
        """The token of a call that runs until its stream is closed, which is the last one of them."""
        body = {"calls": [call("token")], "stream": True}
        request = self._http.build_request("POST", "/v1/internal/run", json=body, headers=self.known["agent"])
        stream = self._http.send(request, stream=True)
        lines = stream.iter_lines()
        self._streams.append((stream, lines))  # nobody must collect the lines, which would close the stream
        events = (json.loads(line[6:]) for line in lines if line.startswith("data: "))
        return next(event["data"] for event in events if event["type"] == "content")

    def _fill(self) -> None:
        self.do("owner", "POST", "/v1/secrets", json=wanted_secret(SECRET))
        for area in ("upload", "upload_temp"):
            self.kept = self.file(area)
        begun = self.do("agent", "POST", "/internal/files/generate_upload_url", json={"filename": "ann.txt"})
        assert self._http.put(begun["upload_url"], content=b"words of ann").is_success
        self.ended = self.do("owner", "POST", "/v1/internal/run", json={"calls": [call("hello")]})["job_id"]
        self.do("owner", "POST", "/v1/internal/run", json={"calls": [call("hello")] * 2})
        submitted = self.do("owner", "POST", "/v1/jobs", json=call("hello"))["job_id"]
        assert self.do("owner", "GET", f"/v1/jobs/{submitted}?wait=30")["status"] == "succeeded"
        self.do("admin", "PUT", "/v1/quotas/ann", json={"limit": 100_000})
        self.agent_id = self.registered()
        self.marks = (
            "words of ann",
            "ann.txt",
            SECRET,
            self.ended,
            submitted,
            self.key_id,
            '"user":"ann"',
            self.web_agent.url,
        )

    def _disguise(self, expiring: str) -> None:
        token = self.known["agent"]["X-Internal-Token"]
        revoked, disabled = self.key("ann", "call", "publish"), self.key("dan", "call", "publish")
        of_revoked = self._http.post("/v1/tokens", json={}, headers=_bearer(revoked["key"])).json()["internal_token"]
        of_disabled = self.token("dan", "helper")
        self.do("admin", "DELETE", f"/v1/keys/{revoked['id']}")
        self.do("admin", "POST", "/v1/users/dan/disable")
        of_ended = self._token_of_a_call_that_ends()
        self.unknown |= {f"forged: {name}": _internal(text) for name, text in forgeries(token).items()}
        self.unknown |= {
            "no key": _bearer("sk-" + "A" * 43),
            "an admin's key as a token": _internal(self.gateway.admin_key),
            "a revoked key": _bearer(revoked["key"]),
            "a token of a revoked key": _internal(of_revoked),
            "a disabled user's key": _bearer(disabled["key"]),
            "a disabled user's token": _internal(of_disabled),
            "a token of a call that ended": _internal(of_ended),
            "an expired token": _internal(expiring),
        }
        until(lambda: self.send(_internal(expiring), "GET", "/v1/files").status_code == 401, 10, "the token's end")

    def _token_of_a_call_that_ends(self) -> str:
        token = self._token_of_a_call()
        self._streams.pop()[0].close()
        until(lambda: self.send(_internal(token), "GET", "/v1/jobs").status_code == 401, 30, "the end of the call")
        return token


def forgeries(token: str) -> dict[str, str]:
    """Tokens that somebody might make who has seen one, but not the key."""
    head, claims, signature = token.split(".")
    header, said = _decoded(head), _decoded(claims)
    other = {**said, "sub": "bob"}
    return {
        "wrong key": jwt.encode(said, b"x" * 32, "HS256", headers=header),
        "no signature": _joined(header, said, ""),
        "no algorithm": jwt.encode(said, None, "none", headers={"kid": header["kid"]}),
        "another algorithm": jwt.encode(said, b"x" * 64, "HS512", headers={"kid": header["kid"]}),
        "unknown key": jwt.encode(said, b"x" * 32, "HS256", headers={"kid": "0" * 16}),
        "no key named": jwt.encode(said, b"x" * 32, "HS256"),
        "key by path": jwt.encode(said, b"x" * 32, "HS256", headers={"kid": "/dev/null"}),
        "other claims": _joined(header, other, signature),
        "longer life": _joined(header, {**said, "exp": said["exp"] + 9e8}, signature),
        "cut": token[:-2],
    }


def wanted_secret(name: str, **more: str) -> dict[str, str]:
    return {"prefab_id": PREFAB, "secret_name": name, "secret_value": "words of ann, secret", **more}


def wanted_upload(area: str) -> dict[str, Any]:
    return {"filename": "mine.txt", "size": 1, "area": area}


def path_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


def _bearer(key: str) -> Headers:
    return {"Authorization": f"Bearer {key}"}


def _internal(token: str) -> Headers:
    return {"X-Internal-Token": token}


def _decoded(part: str) -> dict[str, Any]:
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def _joined(header: dict[str, Any], claims: dict[str, Any], signature: str) -> str:
    parts = (base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in (header, claims))
    return ".".join((*parts, signature))
