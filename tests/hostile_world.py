"""A gateway on which a package of one user attacks those of another."""

import json
import secrets
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateways import Gateway, until
from packages import zoo

MIB = 1 << 20
MEMORY, ROOM = "128Mi", 64 * MIB
SMALL = (
    "from gateway_server.settings import Settings;"
    f"Settings.__init__.__kwdefaults__.update(workspace_limit={ROOM});"
    "from gateway_server.cli.commands import main; main()"
)
"""The gateway's command with room for 64 MiB in each workspace, so that nothing needs to be filled that matters."""
EARLY = """
import json
import os

from src import attacks

try:
    function, parameters = json.loads(os.environ["ATTACK"])
    GOT, REFUSED = getattr(attacks, function)(**parameters), None
except BaseException as error:
    GOT, REFUSED = None, error

def tells():
    if REFUSED is not None:
        raise RuntimeError(repr(REFUSED))
    return GOT
"""
"""A package that attacks when it is imported, and whose function tells what came of it."""


@dataclass
class World:
    """A gateway with a victim and an attacker."""

    gateway: Gateway
    folder: Path
    is_off: bool
    canary: str = field(default_factory=lambda: "CANARY-" + secrets.token_hex(16))
    secret: str = field(default_factory=lambda: "HELD-" + secrets.token_hex(16))
    keys: dict[str, str] = field(default_factory=dict)
    victims: list[int] = field(default_factory=list)
    """Pids of the processes that hold the victim's secret."""
    jobs: list[str] = field(default_factory=list)
    at_import: bool = False
    """Whether attacks are made by the import of a package rather than by a function."""

    def set_up(self) -> None:
        self.gateway.env["CANARY"] = self.canary
        self.gateway.command = [sys.executable, "-c", SMALL]
        self.gateway.start()
        for user, scopes in (("mallory", ("call", "publish")), ("ben", ("call", "publish"))):
            self.keys[user] = self.gateway.key(user, *scopes)
        holds = {"secrets": [{"name": "HELD_SECRET", "description": "Held.", "required": False}]}
        options: dict[str, Any] = {
            "functions": {"holds": holds},
            "manifest": {"execution_environment": {"cpu": "500m", "memory": MEMORY}},
        }
        for prefab, owner in (("hostile", "mallory"), ("bystander", "ben"), ("other", "ben")):
            package = zoo(self.folder / prefab, "hostile", prefab_id=prefab, **options)
            self.gateway.publish(package, key=self.keys[owner])
        early = zoo(self.folder / "early", "hostile", prefab_id="attacks-early", **options)
        (early / "src" / "attacks.py").write_text((early / "src" / "main.py").read_text())
        (early / "src" / "main.py").write_text(EARLY)
        manifest = json.loads((early / "prefab-manifest.json").read_text())
        manifest["functions"] = [{**manifest["functions"][0], "name": "tells", "parameters": [], "secrets": []}]
        (early / "prefab-manifest.json").write_text(json.dumps(manifest))
        self.gateway.publish(early, key=self.keys["mallory"])
        for prefab in ("hostile", "bystander"):
            body = {"prefab_id": prefab, "secret_name": "HELD_SECRET", "secret_value": self.secret}
            assert self.gateway.request("POST", "/v1/secrets", key=self.keys["ben"], json=body).status_code == 204
            self._hold(prefab)

    def tear_down(self) -> None:
        for job in self.jobs:
            self.gateway.request("POST", f"/v1/jobs/{job}/cancel", key=self.keys["ben"])
        self.gateway.stop()

    def _hold(self, prefab: str) -> None:
        """A call of the victim's, as long as the test lasts: of another package, and of the attacker's own."""
        before = set(self.gateway.workers())
        parameters = {"text": "", "seconds": 600}
        body = {"prefab_id": prefab, "version": "1.0.0", "function_name": "holds", "inputs": {"parameters": parameters}}
        answer = self.gateway.request("POST", "/v1/jobs", key=self.keys["ben"], json=body)
        assert answer.status_code == 202, answer.text
        self.jobs.append(answer.json()["job_id"])

        def child() -> list[int]:
            found = [pid for pid in self.gateway.workers() if pid not in before]
            return found if any(name(pid) == "sleep" for pid in found) else []

        self.victims += until(child, 30, "the victim's call")

    def run(
        self, function: str, *, user: str = "mallory", prefab: str = "hostile", after: float = 30, **parameters: Any
    ):
        call = {"prefab_id": prefab, "version": "1.0.0", "function_name": function}
        body = {"calls": [{**call, "inputs": {"parameters": parameters}}], "stream": False}
        headers = {"Cancel-After": f"{int(after * 1000)}ms"}
        return self.gateway.request("POST", "/v1/run", key=self.keys[user], json=body, headers=headers)

    def attack(self, function: str, **parameters: Any) -> str | None:
        """What it got, or None where it was refused."""
        if self.at_import:
            attack = {"ATTACK": json.dumps([function, parameters])}
            path = "/v1/prefabs/attacks-early/1.0.0/settings"
            answer = self.gateway.request("PUT", path, key=self.keys["mallory"], json=attack)
            assert answer.is_success, answer.text
            answer = self.run("tells", prefab="attacks-early")
        else:
            answer = self.run(function, **parameters)
        if answer.status_code != 200:
            print(function, "->", answer.text)
            return None
        (result,) = answer.json()["results"]
        if result["status"] != "SUCCESS":
            print(function, "->", result["error"])
            return None
        return str(result["output"]["output"])

    @property
    def data(self) -> str:
        return str(self.gateway.data)

    def pids(self) -> list[int]:
        return [self.gateway.pid, *self.victims]


def name(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""
