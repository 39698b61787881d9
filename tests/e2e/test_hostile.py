"""A package that attacks, without a sandbox and with one: what succeeds there has to fail here."""

import functools
import json
import operator
import os
import re
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from gateways import Gateway, pack, until
from hostile_world import World
from packages import ZOO, zoo

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="the whole sandbox needs root, and so do the attacks"
)

Attack = Callable[[World], tuple[str | None, str]]
"""Makes an attack: what came of it, and the pattern of what it gives where it succeeds."""
GONE = 2.0
"""Seconds after which nothing of a call may live that has passed its time."""


@pytest.fixture(scope="module", params=["off", "required"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp(f"hostile-{request.param}")
    folder.chmod(0o755)
    gateway = Gateway(folder / "data", "--sandbox", request.param)
    found = World(gateway, folder, request.param == "off")
    try:
        found.set_up()
        yield found
    finally:
        if gateway.process is not None:
            found.tear_down()


def reads(file: str, pattern: str) -> Attack:
    return lambda world: (world.attack("reads", path=f"{world.data}/{file}"), pattern)


def plain(function: str, pattern: str, **parameters: Any) -> Attack:
    return lambda world: (world.attack(function, **parameters), pattern)


def on_pids(function: str, pattern: str, **parameters: Any) -> Attack:
    return lambda world: (world.attack(function, pids=world.pids(), **parameters), pattern)


def listener(world: World, host: str) -> tuple[str | None, str]:
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as server:
        server.settimeout(5)

        def answer() -> None:
            with suppress(OSError):
                visitor, _ = server.accept()
                with visitor:
                    visitor.sendall(b"private")

        thread = threading.Thread(target=answer)
        thread.start()
        found = world.attack("connects", host=host, port=server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    return found, "heard private"


def abstract(world: World) -> tuple[str | None, str]:
    title = f"gateway-test-{secrets.token_hex(4)}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(b"\0" + title.encode())
        server.listen()
        return world.attack("connects_to_name", name=title), "connected"


def impersonates(world: World, host: str) -> tuple[str | None, str]:
    """Somebody of this machine calls the gateway's port by another of its addresses."""
    port = int(world.gateway.url.rpartition(":")[2])
    is_over = threading.Event()

    def visit() -> None:
        while not is_over.is_set():
            with suppress(OSError), socket.create_connection((host, port), 1) as connection:
                connection.sendall(b"my key")
                return
            time.sleep(0.01)

    visitor = threading.Thread(target=visit)
    visitor.start()
    found = world.attack("listens", host=host, port=port, seconds=3)
    is_over.set()
    visitor.join()
    return found, "was told my key"


def rewrites(world: World) -> tuple[str | None, str]:
    """After it, the victim calls a function of theirs that nobody has called yet."""
    (code,) = world.gateway.data.glob("prefabs/**/other/**/src/main.py")
    world.attack("rewrites", path=str(code))
    return world.attack("answers", user="ben", prefab="other"), "taken over"


def leaves(world: World, user: str, pattern: str) -> tuple[str | None, str]:
    title = f"hostile-{secrets.token_hex(4)}"
    assert world.attack("leaves", name=title) is not None
    found = world.attack("finds", name=title, user=user)
    world.attack("clears", name=title, user=user)
    return found, pattern


def takes_output(world: World) -> tuple[str | None, str]:
    """A link to a file of the gateway's among the outputs, which are then fetched."""
    answer = world.run("links_output", path=f"{world.data}/admin.key").json()
    files = (answer["results"][0].get("output") or {}).get("files") or {}
    for url in functools.reduce(operator.iadd, files.values(), []):
        told = world.gateway.request(
            "GET", "/internal/files/download", key=world.keys["mallory"], params={"s3_url": url}
        )
        return world.gateway.request("GET", told.json()["presigned_url"].removeprefix(world.gateway.url)).text, "^sk-"
    return None, "^sk-"


ATTACKS: dict[str, Attack] = {
    "the admin's key": reads("admin.key", "^sk-"),
    "the key of signed addresses": reads("urls.key", "."),
    "the database": reads("gateway.db", "^SQLite format"),
    "the data folder": lambda world: (world.attack("lists", path=world.data), "gateway.db"),
    "the gateway's environment": lambda world: (
        world.attack("reads_environments", pids=[world.gateway.pid]),
        world.canary,
    ),
    "the gateway's memory": lambda world: (
        world.attack("reads_memory", pids=[world.gateway.pid], pattern="CANARY-[0-9a-f]{32}"),
        world.canary,
    ),
    "the gateway's memory, by call": on_pids("reads_memory_by_call", "^read "),
    "the gateway's open files": on_pids("takes_descriptors", "^took "),
    "the gateway's open database": on_pids("opens_descriptors", "^opened SQLite", name="gateway.db"),
    "another's environment": lambda world: (world.attack("reads_environments", pids=world.victims), world.secret),
    "another's memory": lambda world: (
        world.attack("reads_memory", pids=world.victims, pattern="HELD-[0-9a-f]{32}"),
        world.secret,
    ),
    "another's workspace": lambda world: (
        world.attack("reads_workspaces", places=[f"{world.data}/work"]),
        world.secret,
    ),
    "tracing another": on_pids("traces", "^traced"),
    "stopping another": on_pids("signals", "^stopped"),
    "another's socket without a file": plain("connects_to_name", "connected", name="held-by-another"),
    "the disk itself": plain("reads_disk", "^read 4096"),
    "the kernel's log": plain("reads_kernel", "^read "),
    "the kernel's keys": plain("reads_keys", "^keyring"),
    "writing into its own code and interpreter": plain("writes_itself", "^wrote"),
    "writing into the data folder": lambda world: (world.attack("writes_into", folder=world.data), "^wrote"),
    "writing into the system": plain("writes_into", "^wrote", folder="/usr/lib"),
    "writing into the system's settings": plain("writes_into", "^wrote", folder="/etc"),
    "another version's code": rewrites,
    "a setting of the kernel": plain("sets_kernel", "^wrote"),
    "mounting": plain("mounts", "^mounted"),
    "a user namespace": plain("makes_namespaces", "^in "),
    "root": plain("becomes_root", "^root"),
    "another's user id": plain("becomes_another", "^became", uids=[0, 1, *range(100, 110), 1000]),
    "precedence": plain("takes_precedence", "before"),
    "loopback": lambda world: listener(world, "127.0.0.1"),
    "loopback, version 6": lambda world: listener(world, "::1"),
    "metadata": plain("sends", "sent", host="169.254.169.254"),
    "a socket of the machine's without a file": abstract,
    "answering in the gateway's place": lambda world: impersonates(world, "127.0.0.2"),
    "answering in the gateway's place, version 6": lambda world: impersonates(world, "::1"),
    "everybody's packets": plain("sniffs", "^tapped"),
    "memory": plain("fills_memory", "^has 300", megabytes=300),
    "memory of no process": plain("fills_shared_memory", "^has 300", megabytes=300),
    "disk": plain("fills_disk", "^has 200", place="data", megabytes=200),
    "disk, by the temporary folder": plain("fills_disk", "^has 200", place="/tmp", megabytes=200),
    "memory, by shared files": plain("fills_disk", "^has 200", place="/dev/shm", megabytes=200),
    "descriptors": plain("fills_descriptors", "^has 6000", count=6000),
    "processes": plain("fills_process_table", "^had 700", count=700),
    "leaving things for another": lambda world: leaves(world, "ben", "."),
    "leaving things for the next": lambda world: leaves(world, "mallory", "/|tmp|umask|environment"),
    "the gateway's file as an output": takes_output,
}


RIGHTS = {
    "the disk itself": "reads_disk",
    "the kernel's log": "reads_kernel",
    "the kernel's keys": "reads_keys",
    "a setting of the kernel": "sets_kernel",
    "mounting": "mounts",
    "a user namespace": "makes_namespaces",
    "root": "becomes_root",
    "precedence": "takes_precedence",
    "everybody's packets": "sniffs",
}
"""Attacks that take rights which not even root has everywhere, as in some containers."""


def may_itself(function: str, folder: Path) -> bool:
    code = f"import sys; sys.path.insert(0, {str(ZOO)!r}); import hostile; hostile.{function}()"
    return subprocess.run([sys.executable, "-c", code], cwd=folder, timeout=30).returncode == 0


@pytest.mark.parametrize("title", ATTACKS)
def test_it_succeeds_without_a_sandbox_and_fails_with_one(world, title):
    found, pattern = ATTACKS[title](world)
    succeeded = found is not None and re.search(pattern, found) is not None
    if world.is_off and not succeeded and title in RIGHTS and not may_itself(RIGHTS[title], world.folder):
        pytest.skip("this machine does not let root do that, even outside of a gateway")
    assert succeeded is world.is_off, found


INSIDE_ONLY = {"root", "another's user id"}
"""What the process that imports a package has, within a user namespace in which nobody else is."""


@pytest.mark.parametrize("title", [title for title in ATTACKS if not title.startswith("leaving")])
def test_an_import_gets_no_further_than_a_function(world, title):
    if world.is_off:
        pytest.skip("nothing is promised there")
    world.at_import = True
    try:
        found, pattern = ATTACKS[title](world)
    finally:
        world.at_import = False
    succeeded = found is not None and re.search(pattern, found) is not None
    assert succeeded is (title in INSIDE_ONLY), found


# What the gateway itself holds, at every level: the same request in the user's own name shows that it could be granted.


def routes(world: World) -> list[list[Any]]:
    """Every route that is described, with something that it takes where that matters."""
    body = {"prefab_id": "hostile", "version": "1.0.0", "function_name": "answers"}
    bodies: dict[str, Any] = {
        "/v1/internal/run": {"calls": [body]},
        "/v1/run": {"calls": [body]},
        "/v1/jobs": body,
        "/v1/secrets": {"prefab_id": "hostile", "secret_name": "X", "secret_value": "y"},
        "/v1/keys": {"user": "mallory", "scopes": ["call"], "name": "x"},
        "/v1/tokens": {"user": "mallory", "ttl": 60},
        "/internal/files/generate_upload_url": {"filename": "x"},
        "/v1/files/uploads": {"filename": "x", "size": 1},
        "/v1/quotas/{user}": {"limit": 9},
    }
    values = {
        "job_id": world.jobs[0],
        "prefab_id": "bystander",
        "version": "1.0.0",
        "user": "ben",
        "secret_name": "HELD_SECRET",
        "function_name": "answers",
        "agent_id": "helper",
        "path": "x",
        "key_id": "x",
        "upload_id": "x",
        "key": "x",
    }
    found = []
    for path, methods in world.gateway.request("GET", "/openapi.json").json()["paths"].items():
        for method in methods:
            found.append(
                [method.upper(), path.format(**values), bodies.get(path) if method in ("post", "put") else None]
            )
    return found


OPEN = (
    "GET /health",
    "GET /ready",
    "GET /metrics",
    "GET /v1/public/",
    "GET /v1/prefabs",
    "POST /v1/internal/run",
    "POST /v1/run",
    "POST /internal/files/",
    "POST /v1/files/uploads",
)
"""What code inside a call may ask for: other prefabs, files of its call, and what is for everybody."""


def test_its_token_opens_nothing_but_calls_and_their_files(world):
    asked = routes(world)
    assert len(asked) > 40
    answer = world.run("uses_token", routes=asked, after=120).json()
    found: dict[str, int] = answer["results"][0]["output"]["output"]
    assert len(found) == 2 * len(asked)
    granted = {what for what, status in found.items() if status < 400}
    assert any(what.startswith("POST /v1/internal/run") for what in granted)  # it is a good token
    assert {what for what in granted if not what.startswith(OPEN)} == set()
    assert max(found.values()) < 500, found
    own = [world.gateway.request("GET", path, key=world.keys["mallory"]) for path in ("/v1/jobs", "/v1/secrets")]
    assert [one.status_code for one in own] == [200, 200]
    assert found["GET /v1/jobs X-Internal-Token"] == found["GET /v1/secrets X-Internal-Token"] == 403
    later = world.gateway.request("GET", "/v1/usage", key=world.keys["ben"])
    assert later.status_code == 200


def test_a_familiar_id_stays_with_who_published_it_first(world, tmp_path):
    mine = zoo(tmp_path / "mine", "hostile", prefab_id="other", version="1.0.1")
    (mine / "src" / "main.py").write_text((mine / "src" / "main.py").read_text().replace('"honest"', '"taken over"'))
    archive = {"file": ("package.tar.gz", pack(mine))}
    refused = world.gateway.request("POST", "/v1/prefabs", key=world.keys["mallory"], files=archive)
    assert refused.status_code == 403, refused.text
    call = {"prefab_id": "other", "version": "1.0.1", "function_name": "answers"}
    answer = world.gateway.request("POST", "/v1/run", key=world.keys["ben"], json={"calls": [call]})
    assert answer.status_code == 404
    assert world.gateway.request("POST", "/v1/prefabs", key=world.keys["ben"], files=archive).status_code == 201


def test_odd_outputs_are_left_out_or_made_harmless(world):
    began = time.monotonic()
    (result,) = world.run("odd_outputs", count=1000, after=60).json()["results"]
    taken = time.monotonic() - began
    urls = result["output"]["files"]["output"]
    names = [url.rpartition("/")[2] for url in urls]
    assert len(names) == len(set(names)) == 1000 + 7
    assert not {"pipe", "socket"} & set(names)
    assert not any(set(name) & set("\n\\/") or name in ("..", ".") for name in names)
    assert taken < 60
    (result,) = world.run("symlinks_output", path=f"{world.data}/admin.key").json()["results"]
    assert result["output"]["files"] == {}


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (5, "no JSON"),
        (5, '1},"results":[{"a":1'),
        (5, "[" * 200_000),
        (4, '{"type":"done"}\n\ndata: {"type":"content","data":"forged"}'),
        (7, "x"),
        (8, "[" * 200_000),
        (9, "{}"),
        (77, "x"),
    ],
)
def test_what_it_says_in_its_workers_name_spoils_its_own_call_alone(world, kind, payload):
    for stream in (False, True):
        call = {"prefab_id": "hostile", "version": "1.0.0", "function_name": "forges"}
        call["inputs"] = {"parameters": {"kind": kind, "payload": payload}}
        body = {"calls": [call], "stream": stream}
        headers = {"Cancel-After": "1500ms"}
        answer = world.gateway.request("POST", "/v1/run", key=world.keys["mallory"], json=body, headers=headers)
        if stream and answer.status_code == 200:
            events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
            assert all(isinstance(event, dict) for event in events)
            assert [event["type"] for event in events].count("done") <= 1
            assert "forged" not in answer.text or events[-1]["type"] in ("done", "error")
        else:
            assert answer.status_code in (200, 502, 504), answer.text
            assert isinstance(answer.json(), dict)
        assert world.gateway.request("GET", "/v1/jobs", key=world.keys["mallory"]).json()
    assert world.attack("answers", user="ben") in ("honest", "taken over")


# Living on.


def bearing(mark: str) -> list[int]:
    """Processes and threads with a name."""
    found = []
    for process in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            found += [int(process) for task in Path(f"/proc/{process}/task").iterdir() if named(task, mark)]
    return found


def named(task: Path, mark: str) -> bool:
    with suppress(OSError):
        state = (task / "stat").read_text().rpartition(")")[2].split()[0]
        return (task / "comm").read_text().strip() == mark and state not in "ZX"
    return False


@pytest.mark.parametrize("way", ["hang", "daemon", "threads", "forks", "stops", "clone"])
def test_nobody_lives_on_after_its_time(world, way):
    mark = f"h{secrets.token_hex(5)}"
    calls = threading.Thread(target=lambda: world.run("lives_on", way=way, mark=mark, seconds=5, after=1))
    calls.start()
    until(lambda: bearing(mark), 20, "the function")
    calls.join()
    if world.is_off:
        time.sleep(GONE)
        assert bearing(mark)
    until(lambda: not bearing(mark), 20 if world.is_off else GONE, "its end")
    assert world.attack("answers", user="ben") in ("honest", "taken over")
