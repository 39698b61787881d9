"""Real things for requests to name: made through the API itself, and made again when requests have used them up."""

import random
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

from fuzz import hostile
from fuzz.wire import Answer, Line, Request, quoted
from gateways import pack
from packages import write_package

SOURCE = """
import os
import time
from pathlib import Path


def echo(value):
    return {"value": value}


def add(a: int, b: int = 2):
    return a + b


def talk(n: int):
    for i in range(min(n, 50)):
        yield {"type": "content", "data": f"line {i}\\n\\ndata: {{}}"}


def naps(seconds: float = 0.01):
    time.sleep(max(0.0, min(seconds, 0.2)))


def raises(text: str):
    raise ValueError(text)


def writes(name: str):
    Path("data/outputs", name.encode(errors="replace").decode().replace("/", "_")[:50] or "x").write_text("x")


def reads():
    return sorted(path.name for path in Path("data/inputs/input").iterdir())


def has_secret():
    return bool(os.environ["FUZZ_SECRET"])
"""
FUNCTIONS: dict[str, dict[str, Any]] = {
    "echo": {"parameters": [{"name": "value", "type": kind} for kind in ("object",)]},
    "reads": {"files": {"input": {"type": "array", "items": {"type": "InputFile"}}}},
    "has_secret": {"secrets": [{"name": "FUZZ_SECRET", "description": "Any."}]},
}
TINY = "def one():\n    return 1\n"
MOST = 12
"""Things of one kind that are kept."""
BOUNDARY = "fuzz-boundary"


def package(folder: Path, prefab_id: str, version: str = "1.0.0", source: str = TINY) -> bytes:
    """A package as its archive."""
    functions = FUNCTIONS if source is SOURCE else None
    return pack(
        write_package(
            folder / f"{prefab_id}-{version}", source, prefab_id=prefab_id, version=version, functions=functions
        )
    )


def form(content: bytes, filename: str = "a.txt", **fields: str) -> tuple[bytes, tuple[str, str]]:
    """A multipart body and its header."""
    edge = f"--{BOUNDARY}\r\n".encode()
    body = b"".join(
        edge + f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    )
    quoted_name = filename.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    head = f'Content-Disposition: form-data; name="file"; filename="{quoted_name}"\r\nContent-Type: text/plain\r\n\r\n'
    body += edge + head.encode("utf-8", "surrogatepass") + content + f"\r\n--{BOUNDARY}--\r\n".encode()
    return body, ("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")


class World:
    """What one fuzzing caller has: a user with keys and an agent's token, an admin, and a supply of everything."""

    def __init__(
        self, line: Line, admin_key: str, number: int, folder: Path, agent_url: str, rng: random.Random
    ) -> None:
        self.line, self.rng, self.folder, self.agent_url = line, rng, folder, agent_url
        self.admin = ("Authorization", f"Bearer {admin_key}")
        self.user = f"fuzz{number}"
        self.prefab = f"fuzz-target-{number}"
        self.agent = f"agent{number}"
        self._number = 0
        self._kept: dict[str, list[Any]] = defaultdict(list)
        self._named: list[tuple[str, Any]] = []
        self.sign_in()
        self.publish(package(folder, self.prefab, source=SOURCE))
        self.ask("POST", "/v1/agents", {"id": self.agent, "url": agent_url})
        secret = {"prefab_id": self.prefab, "secret_name": "FUZZ_SECRET", "secret_value": "a secret value"}
        self.ask("POST", "/v1/secrets", secret, self.key)

    def sign_in(self) -> None:
        """A key and a token; what came before may have been revoked."""
        key = self.ask("POST", "/v1/keys", {"user": self.user, "scopes": ["call", "publish"]}).json()["key"]
        self.key = ("Authorization", f"Bearer {key}")
        self.other_key = ("X-API-Key", key)
        token = self.ask("POST", "/v1/tokens", {"user": self.user, "agent": "helper", "ttl": 30 * 86400 - 1}).json()
        self.token = ("X-Internal-Token", token["internal_token"])

    def ask(self, method: str, path: str, document: Any = None, who: tuple[str, str] | None = None) -> Answer:
        """A request that must succeed."""
        request = Request(method=method, template=path, headers=(who or self.admin,))
        if document is not None:
            request = request.with_json(document).with_header("Content-Type", "application/json")
        return self._sent(request)

    def _sent(self, request: Request) -> Answer:
        answer = self.line.send(request)
        if answer.status == 401 and self.admin not in request.headers:
            mine = {self.key: "key", self.token: "token", self.other_key: "other_key"}
            self.sign_in()
            headers = tuple(getattr(self, mine[pair]) if pair in mine else pair for pair in request.headers)
            answer = self.line.send(replace(request, headers=headers))
        assert answer.ok, f"{request.method} {request.target}: {answer.status} {answer.body[:500]!r}"
        return answer

    def upload(self, path: str, content: bytes = b"content", **fields: str) -> str:
        """A stored file."""
        body, kind = form(content, **fields)
        url: str = self._sent(Request(method="POST", template=path, headers=(self.token, kind), body=body)).json()[
            "s3_url"
        ]
        return url

    def publish(self, archive: bytes) -> None:
        """A version of this caller's own."""
        body, kind = form(archive, "package.tar.gz")
        self._sent(Request(method="POST", template="/v1/prefabs", headers=(self.key, kind), body=body))

    def name(self, prefix: str) -> str:
        """One that nothing has yet."""
        self._number += 1
        return f"{prefix}-{self.user}-{self._number}"

    def keep(self, kind: str, thing: Any) -> None:
        """Has something at hand that an answer named."""
        self._kept[kind] = [*self._kept[kind][-MOST:], thing]

    def some(self, kind: str) -> Any:
        """One of a kind, which stays."""
        if not self._kept[kind]:
            self.keep(kind, getattr(self, f"_new_{kind}")())
        thing = self.rng.choice(self._kept[kind])
        self._named.append((kind, thing))
        return thing

    def begin(self) -> None:
        """Another request is going to be made."""
        self._named.clear()

    def forget(self) -> None:
        """What the request named is gone, or never was: a mutated request before it may have ended it."""
        for kind, thing in self._named:
            if thing in self._kept[kind]:
                self._kept[kind].remove(thing)

    def last(self, kind: str) -> Any:
        """One of a kind, which the request is going to use up."""
        thing = self.some(kind)
        self._kept[kind].remove(thing)
        return thing

    def call(self, function: str | None = None) -> tuple[dict[str, Any], Any]:
        """A call that can succeed, and what it gives back if that is known."""
        rng = self.rng
        name = function or rng.choice(
            ["echo", "echo", "add", "talk", "naps", "raises", "writes", "reads", "has_secret"]
        )
        value = {"v": hostile.value(rng)}
        chosen: dict[str, tuple[Any, Any]] = {
            "echo": ({"value": value}, {"value": value}),
            "add": ({"a": rng.randrange(-(10**6), 10**6)}, None),
            "talk": ({"n": rng.randrange(5)}, None),
            "raises": ({"text": hostile.text(rng)}, None),
            "writes": ({"name": hostile.text(rng).replace("\0", "") or "x"}, None),
        }
        parameters, expected = chosen.get(name, ({}, None))
        inputs: dict[str, Any] = {"parameters": parameters}
        if name == "reads":
            inputs["files"] = {"input": [self.some("file")]}
        version = rng.choice(["1.0.0", "latest"])
        call = {"prefab_id": self.prefab, "version": version, "function_name": name, "inputs": inputs}
        return call, expected

    def _new_file(self) -> str:
        return self.upload("/internal/files/upload", b"x" * self.rng.randrange(2000))

    def _new_temporary(self) -> str:
        return self.upload("/internal/files/upload_temp", ttl="3600", session_id="s1")

    def _new_upload(self) -> dict[str, Any]:
        wanted = {"filename": "a.bin", "size": 10, "area": self.rng.choice(["outputs", "workspace", "inputs"])}
        begun: dict[str, Any] = self.ask("POST", "/v1/files/uploads", wanted, self.token).json()
        return begun

    def _new_upload_id(self) -> str:
        upload_id: str = self._new_upload()["upload_id"]
        return upload_id

    def _new_prefab(self) -> str:
        return self.prefab

    def _new_function(self) -> tuple[str, str]:
        return self.prefab, self.rng.choice(["add", "echo", "reads"])

    def _new_whole_upload(self) -> str:
        begun = self._new_upload()
        target = begun["part_urls"][0].split("/", 3)[3]
        self._sent(Request(method="PUT", template="/" + target, body=b"0123456789"))
        upload_id: str = begun["upload_id"]
        return upload_id

    def _new_download(self) -> str:
        answer = self.ask("GET", f"/internal/files/download?s3_url={quoted(self.some('file'))}", None, self.token)
        url: str = answer.json()["presigned_url"]
        return url

    def _new_input(self) -> str:
        url: str = self.ask("POST", "/internal/files/generate_upload_url", {"filename": "i.txt"}, self.key).json()[
            "upload_url"
        ]
        return url

    def _new_job(self) -> str:
        job: str = self.ask("POST", "/v1/jobs", self.call("talk")[0], self.key).json()["job_id"]
        return job

    def _new_ended(self) -> str:
        job = self._new_job()
        self.ask("GET", f"/v1/jobs/{job}?wait=30", None, self.key)
        return job

    def _new_key(self) -> str:
        key: str = self.ask("POST", "/v1/keys", {"user": self.user, "name": self.name("k")}).json()["id"]
        return key

    def _new_user(self) -> str:
        user = self.name("u")
        self.ask("POST", "/v1/keys", {"user": user, "name": "to be"})
        return user

    def _new_agent(self) -> str:
        agent = self.name("a")
        self.ask("POST", "/v1/agents", {"id": agent, "url": self.agent_url, "check": False}, self.key)
        return agent

    def _new_secret(self) -> tuple[str, str]:
        name = self.name("S").replace("-", "_").upper()
        self.ask("POST", "/v1/secrets", {"prefab_id": self.prefab, "secret_name": name, "secret_value": "v"}, self.key)
        return self.prefab, name

    def _new_version(self) -> tuple[str, str]:
        prefab_id = self.name("tiny")
        self.publish(package(self.folder, prefab_id))
        return prefab_id, "1.0.0"
