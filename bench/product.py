"""The gateway as people run it: the installed command with everything on, and the few requests that prepare it."""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from bench import prefab
from bench.endpoint import TEXT, Endpoint
from bench.server import Server

COMMAND = str(Path(sys.executable).with_name("gateway"))
READY = re.compile(r"listening on http://[^:\s]+:(\d+)")
USER = "bench"
PLENTY = 10**9
"""A quota that is counted against, and never used up."""


def sandbox() -> str:
    """The strongest that this user may ask for."""
    return "required" if os.geteuid() == 0 else "auto"


class Product(Server):
    """A gateway with a data folder that it may share with earlier ones, never at the same time."""

    def __init__(self, folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        clean = {name: "" for name in os.environ if name.startswith("GATEWAY_")}
        command = [COMMAND, "serve", "--port", "0", "--data", str(folder), "--sandbox", sandbox(), *arguments]
        super().__init__(
            "gateway", command, log=folder.with_suffix(".log"), env={**clean, **(env or {})}, cwd=folder.parent
        )
        self.folder = folder
        self.port = 0
        self.started_in = 0.0
        """Seconds from its start until it said that it is ready."""
        self._http = httpx.Client(timeout=120, trust_env=False)

    def start(self) -> None:
        """Starts it, and waits until it says that it listens."""
        begin = self.log.stat().st_size if self.log.exists() else 0
        super().start()

        def look() -> bool:
            with open(self.log, "rb") as log:
                log.seek(begin)
                found = READY.search(log.read().decode(errors="replace"))
            self.port = int(found[1]) if found else 0
            return self.port > 0

        self.started_in = self.wait(look)

    def stop(self, *, kill: bool = False) -> None:
        """Ends it, and the connections to it."""
        super().stop(kill=kill)
        self._http.close()
        self._http = httpx.Client(timeout=120, trust_env=False)

    def __enter__(self) -> "Product":
        self.start()
        return self

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def request(self, method: str, path: str, **options: Any) -> Any:
        """A request of the administrator: the answer's JSON.

        Raises:
            RuntimeError: it was refused.
        """
        key = (self.folder / "admin.key").read_text().strip()
        return self.as_token(key, method, path, **options)

    def as_token(self, token: str, method: str, path: str, **options: Any) -> Any:
        """A request with a token or key: the answer's JSON.

        Raises:
            RuntimeError: it was refused.
        """
        answer = self._http.request(method, self.url + path, headers={"Authorization": f"Bearer {token}"}, **options)
        if not answer.is_success:
            raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        return answer.json() if answer.content else None

    def put(self, url: str, data: bytes) -> None:
        """Sends bytes to a signed URL."""
        whole = self.url + url if url.startswith("/") else url
        self._http.put(whole, content=data).raise_for_status()

    def publish(self, prefab_id: str = prefab.ID, version: str = prefab.VERSION) -> None:
        """Publishes the prefab that is measured under an id."""
        package = ("package.tar.gz", prefab.archive(prefab_id, version))
        self.request("POST", "/v1/prefabs", files={"file": package})

    def key(self, user: str = USER) -> str:
        """A new API key of a user, who has a quota."""
        made = self.request("POST", "/v1/keys", json={"user": user, "scopes": ["call"], "name": "bench"})
        self.request("PUT", f"/v1/quotas/{user}", json={"limit": PLENTY})
        return str(made["key"])

    def token(self, user: str = USER) -> str:
        """An internal token of a user, as agents get them."""
        return str(
            self.request("POST", "/v1/tokens", json={"user": user, "agent": "bench", "ttl": 3600})["internal_token"]
        )

    def endpoint(self, key: str, body: Any = None) -> Endpoint:
        """A run with an API key; an echo if nothing else is given."""
        headers = {"Authorization": f"Bearer {key}"}
        whole = body if body is not None else prefab.call("echo", text=TEXT)
        return Endpoint(self.port, "/v1/run", headers=headers).with_body(whole)


def prepared(folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> Product:
    """A gateway that has never run; the caller starts it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.parent.chmod(0o755)  # workers are other users, and pass through it
    return Product(folder, *arguments, env=env)
