"""Users come with their first key, can be shut out, and go with everything that is theirs."""

import json
import os
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import obstore
import pytest
from gateways import Gateway, running_gateway, until
from packages import write_package
from s3_server import BUCKET, s3_server
from web_agent import WebAgent

from gateway_sdk import AuthenticationError, GatewayClient, PrefabCall

LEAVER, MARK = "wanderer-x1", "mark-8d2f"
SOURCE = """
import time
from pathlib import Path

def keep(text: str):
    print("printed", text)
    Path("data/outputs/kept.txt").write_text(text)
    return {"text": text}

def sleeps(seconds: float):
    time.sleep(seconds)
"""


@pytest.fixture(scope="module")
def prefab(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> str:
    gateway.publish(write_package(tmp_path_factory.mktemp("keeper"), SOURCE, prefab_id="keeper"))
    return "keeper"


def ask(gateway: Gateway, method: str, path: str, status: int = 200, **options: object) -> dict[str, object]:
    answer = gateway.request(method, path, **options)
    assert answer.status_code == status, answer.text
    return answer.json() if answer.content else {}


def test_a_name_becomes_a_user_with_its_first_key(gateway: Gateway, user: str):
    assert ask(gateway, "GET", f"/v1/users/{user}", 404)["detail"]["error_code"] == "USER_NOT_FOUND"
    gateway.key(user)
    shown = ask(gateway, "GET", f"/v1/users/{user}")
    assert (shown["status"], shown["keys"]) == ("active", 1)
    assert shown["belongings"]["jobs"] == 0


@pytest.mark.parametrize("way", ["token", "quota", "secret"])
def test_other_ways_to_become_one(gateway: Gateway, user: str, way: str):
    if way == "token":
        gateway.token(user)
    elif way == "quota":
        ask(gateway, "PUT", f"/v1/quotas/{user}", json={"limit": 5})
    else:
        body = {"prefab_id": "some-prefab", "secret_name": "A", "secret_value": "b", "user": user}
        ask(gateway, "POST", "/v1/secrets", 204, json=body)
    assert ask(gateway, "GET", f"/v1/users/{user}")["status"] == "active"


def test_an_unknown_name_is_told_the_one_it_resembles(gateway: Gateway, user: str):
    gateway.key(user)
    told = ask(gateway, "GET", f"/v1/users/{user}x", 404)["detail"]["message"]
    assert f"Did you mean {user}?" in told


def test_users_are_listed_page_by_page(gateway: Gateway):
    names = sorted(f"paged-{uuid4().hex[:8]}" for _ in range(5))
    for name in names:
        gateway.key(name)
    found, cursor, pages = [], "", 0
    while cursor is not None:
        page = ask(gateway, "GET", "/v1/users", params={"q": "paged-", "limit": 2, "cursor": cursor})
        found += [user["id"] for user in page["users"]]
        cursor, pages = page["next_cursor"], pages + 1
    assert (found, pages) == (names, 3)


def test_only_admins_see_others(gateway: Gateway, user: str):
    key = gateway.key(user, "call", "publish")
    ask(gateway, "GET", "/v1/users", 403, key=key)
    ask(gateway, "GET", f"/v1/users/{user}", 200, key=key)
    ask(gateway, "GET", "/v1/users/admin", 403, key=key)
    for method, path in (("POST", "disable"), ("POST", "enable")):
        ask(gateway, method, f"/v1/users/{user}/{path}", 403, key=key)
    ask(gateway, "DELETE", f"/v1/users/{user}", 403, key=key)
    ask(gateway, "GET", "/v1/audit", 403, key=key)


def test_a_disabled_user_is_shut_out_at_once_and_let_in_again(gateway: Gateway, prefab: str, user: str):
    key, token = gateway.key(user), gateway.token(user)
    by_key = GatewayClient.from_api_key(key, base_url=gateway.url)
    by_token = GatewayClient(internal_token=token, base_url=gateway.url)
    for client in (by_key, by_token):
        assert client.run(prefab, "1.0.0", "keep", {"text": "a"}).is_success()
    assert ask(gateway, "POST", f"/v1/users/{user}/disable")["status"] == "disabled"
    for client in (by_key, by_token):
        with pytest.raises(AuthenticationError, match="disabled"):
            client.run(prefab, "1.0.0", "keep", {"text": "a"})
    ask(gateway, "GET", "/v1/secrets", 401, key=key)
    refused = ask(gateway, "POST", "/v1/keys", 422, json={"user": user})
    assert "gateway user enable" in refused["detail"]["message"]
    ask(gateway, "POST", f"/v1/users/{user}/enable")
    for client in (by_key, by_token):
        assert client.run(prefab, "1.0.0", "keep", {"text": "a"}).is_success()


def test_disabling_ends_running_calls(gateway: Gateway, prefab: str, user: str):
    client = gateway.client(user, max_retries=0)
    outcomes: list[object] = []

    def run() -> None:
        try:
            outcomes.append(client.run(prefab, "1.0.0", "sleeps", {"seconds": 60.0}))
        except Exception as error:
            outcomes.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: ask(gateway, "GET", f"/v1/users/{user}")["belongings"]["jobs"] == 1)
    ask(gateway, "POST", f"/v1/users/{user}/disable")
    thread.join(10)
    assert outcomes
    assert "may not call any more" in str(outcomes[0])


def test_a_batch_that_comes_in_while_its_user_is_deleted_leaves_nothing(gateway: Gateway, prefab: str, user: str):
    call = {"prefab_id": prefab, "version": "1.0.0", "function_name": "keep", "inputs": {"parameters": {"text": "a"}}}
    body = json.dumps({"calls": [call, call]}).encode()
    head = f"POST /v1/run HTTP/1.1\r\nHost: x\r\nX-API-Key: {gateway.key(user)}\r\nContent-Length: {len(body)}\r\n"
    address = urlsplit(gateway.url)
    with socket.create_connection((address.hostname, address.port), 20) as connection:
        connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        heard = b""
        while b"100 Continue" not in heard:  # who calls is known by then
            heard += connection.recv(4096)
        ask(gateway, "DELETE", f"/v1/users/{user}")
        connection.sendall(body)
        answer = connection.recv(4096)
    assert b"401 Unauthorized" in answer
    assert ask(gateway, "GET", "/v1/jobs", params={"user": user})["jobs"] == []


def test_nobody_locks_themselves_out(gateway: Gateway):
    assert "yourself" in ask(gateway, "DELETE", "/v1/users/admin", 403)["detail"]["message"]
    ask(gateway, "POST", "/v1/users/admin/disable", 403)


def test_being_disabled_lasts_over_a_restart(tmp_path: Path):
    gateway = Gateway(tmp_path / "data").start()
    try:
        key, token = gateway.key("ann"), gateway.token("bob")
        ask(gateway, "POST", "/v1/users/ann/disable")
        ask(gateway, "DELETE", "/v1/users/bob")
        gateway.stop()
        gateway.start()
        ask(gateway, "GET", "/v1/secrets", 401, key=key)
        assert httpx.get(f"{gateway.url}/v1/secrets", headers={"X-Internal-Token": token}).status_code == 401
        ask(gateway, "POST", "/v1/users/ann/enable")
        ask(gateway, "GET", "/v1/secrets", 200, key=key)
    finally:
        gateway.stop()


@pytest.fixture(params=["folder", "S3"])
def lone(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Gateway]:
    """A gateway of its own, over either kind of store."""
    if request.param == "folder":
        with running_gateway(tmp_path / "data") as gateway:
            yield gateway
        return
    (tmp_path / "s3").mkdir()
    with s3_server(tmp_path / "s3") as environment:
        with running_gateway(tmp_path / "data", "--store", f"s3://{BUCKET}/pre", env=environment) as gateway:
            yield gateway


def live(gateway: Gateway, tmp_path: Path, user: str, mark: str) -> tuple[str, str]:
    """What a user leaves behind: files of every kind, secrets, jobs, logs, quotas, an agent. Gives key and token."""
    key = gateway.key(user, "call", "publish")
    body = {"prefab_id": "keeper", "secret_name": "TOKEN", "secret_value": f"secret-{mark}"}
    ask(gateway, "POST", "/v1/secrets", 204, key=key, json=body)
    ask(gateway, "PUT", f"/v1/quotas/{user}", json={"limit": 500})
    token = gateway.token(user, "desk")
    client = GatewayClient(internal_token=token, base_url=gateway.url)
    path = tmp_path / f"{mark}.txt"
    path.write_text(f"content-{mark}")
    client.upload_file(str(path))
    client.upload_temp_file(str(path), session_id="s")
    client.upload_input_file(str(path))
    assert client.run("keeper", "1.0.0", "keep", {"text": f"result-{mark}"}).is_success()
    return key, token


def leavings(gateway: Gateway, *marks: str) -> list[str]:
    """Files of the data folder and rows of the database that hold one of the texts."""
    wanted = [mark.encode() for mark in marks]
    found = []
    for parent, _, names in os.walk(gateway.data):
        for name in names:
            path = Path(parent, name)
            if path.name.startswith("gateway.db"):
                continue
            with suppress(FileNotFoundError):  # it was removed meanwhile
                if any(mark in path.read_bytes() or mark in str(path).encode() for mark in wanted):
                    found.append(str(path))
    with closing(sqlite3.connect(gateway.data / "gateway.db")) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for row in database.execute(f"SELECT * FROM {table}"):
                if any(mark in marks or str(mark).find(marks[0]) >= 0 for mark in row if isinstance(mark, str)):
                    found.append(f"{table}: {row}")
                if any(isinstance(cell, bytes) and any(mark in cell for mark in wanted) for cell in row):
                    found.append(f"{table}: {row}")
    return found


def objects_in(gateway: Gateway) -> list[str]:
    """Every key in the bucket."""
    store = obstore.store.S3Store(
        BUCKET,
        endpoint=gateway.env["AWS_ENDPOINT_URL"],
        access_key_id=gateway.env["AWS_ACCESS_KEY_ID"],
        secret_access_key=gateway.env["AWS_SECRET_ACCESS_KEY"],
        region=gateway.env["AWS_REGION"],
        client_options={"allow_http": True},
    )
    return [entry["path"] for some in obstore.list(store) for entry in some]


def test_nothing_is_left_of_a_deleted_user(lone: Gateway, tmp_path: Path):
    lone.publish(write_package(tmp_path / "keeper", SOURCE, prefab_id="keeper"))
    _, _ = live(lone, tmp_path, "bystander", "stays")
    key, token = live(lone, tmp_path, LEAVER, MARK)
    lone.publish(write_package(tmp_path / "own", SOURCE, prefab_id="given-away"), key=key)
    with WebAgent() as agent:
        ask(lone, "POST", "/v1/agents", 201, key=key, json={"id": "goes-along", "url": agent.url})
    upload = httpx.post(
        f"{lone.url}/internal/files/generate_upload_url",
        headers={"X-Internal-Token": token},
        json={"filename": "late-mark-8d2f.txt", "content_type": None},
    ).json()

    is_s3 = not lone.data.joinpath("objects").exists()
    before = ask(lone, "GET", "/v1/users/" + LEAVER)["belongings"]
    told = ask(lone, "DELETE", "/v1/users/" + LEAVER)
    assert told["deleted"] == before
    assert {name: before[name] for name in ("keys", "secrets", "files", "jobs")} == {
        "keys": 1,
        "secrets": 1,
        "files": 3 if is_s3 else 4,  # what a client put into S3 is recorded when it is first used
        "jobs": 1,
    }
    assert (before["agents"], before["prefabs"]) == (["goes-along"], ["given-away"])
    assert told["prefabs_given_to"] == "admin"

    ask(lone, "GET", "/v1/secrets", 401, key=key)
    assert httpx.get(f"{lone.url}/v1/secrets", headers={"X-Internal-Token": token}).status_code == 401
    ask(lone, "GET", "/v1/users/" + LEAVER, 404)
    rows = [row for row in leavings(lone, LEAVER, MARK) if not row.startswith(("users: ", "audit: "))]
    assert rows == []
    for name in ("gateway.db", "gateway.db-wal"):
        content = (lone.data / name).read_bytes()
        assert f"result-{MARK}".encode() not in content
        assert f"agent-outputs/{LEAVER}".encode() not in content
    assert leavings(lone, "stays")
    assert ask(lone, "GET", "/v1/prefabs/given-away/1.0.0/spec")["id"] == "given-away"
    if is_s3:
        keys = objects_in(lone)
        assert [key for key in keys if LEAVER in key] == []
        assert [key for key in keys if "bystander" in key]
    else:
        assert httpx.put(upload["upload_url"], content=b"late").status_code == 403

    # The name may be given out anew; nothing of before comes back to life.
    fresh = lone.key(LEAVER)
    assert httpx.get(f"{lone.url}/v1/secrets", headers={"X-Internal-Token": token}).status_code == 401
    assert ask(lone, "GET", "/v1/secrets", key=fresh) == {"secrets": []}
    assert ask(lone, "GET", "/v1/files", key=fresh)["files"] == []
    assert ask(lone, "GET", "/v1/quotas", key=fresh)["limit"] is None
    assert ask(lone, "GET", "/v1/usage", key=fresh)["calls"] == 0
    assert httpx.get(f"{lone.url}/v1/secrets", headers={"X-Internal-Token": lone.token(LEAVER)}).is_success


def test_a_deletion_that_was_cut_is_finished_by_the_next_start(tmp_path: Path):
    gateway = Gateway(tmp_path / "data").start()
    try:
        gateway.publish(write_package(tmp_path / "keeper", SOURCE, prefab_id="keeper"))
        live(gateway, tmp_path, LEAVER, MARK)
        gateway.stop()
        # As if it had died after the first step.
        with closing(sqlite3.connect(gateway.data / "gateway.db")) as database, database:
            database.execute("UPDATE users SET deleted_at = created_at + 1 WHERE id = ?", (LEAVER,))
        gateway.start()

        def rest() -> list[str]:
            return [row for row in leavings(gateway, LEAVER, MARK) if not row.startswith(("users: ", "audit: "))]

        until(lambda: not rest(), what="the rest of the deletion")
    finally:
        gateway.stop()


def test_a_name_is_not_given_out_anew_while_its_user_is_being_deleted(gateway: Gateway, prefab: str, user: str):
    """Whatever the order in which they come, a new user keeps what is theirs, and has nothing of the old one's."""
    for number in range(5):
        client = gateway.client(user, "desk")
        client.run(prefab, "1.0.0", "keep", {"text": f"old-{number}"})
        deleting = threading.Thread(target=lambda: gateway.request("DELETE", f"/v1/users/{user}"))
        deleting.start()
        key = gateway.key(user)
        deleting.join(30)
        shown = gateway.request("GET", f"/v1/users/{user}")
        if shown.status_code == 404:  # the key came first, and went with everything else
            ask(gateway, "GET", "/v1/secrets", 401, key=key)
        else:
            ask(gateway, "GET", "/v1/secrets", 200, key=key)
            assert (shown.json()["keys"], shown.json()["belongings"]["jobs"]) == (1, 0)


def test_a_batch_ends_with_its_user_and_leaves_nothing_to_the_next_of_that_name(
    gateway: Gateway, prefab: str, user: str
):
    """Most of its calls wait for a place when the user goes; none of them may begin any more."""
    client = gateway.client(user, "desk", max_retries=0)
    calls = [PrefabCall(prefab, "1.0.0", "sleeps", {"seconds": 0.5}) for _ in range(60)]
    calls += [PrefabCall(prefab, "1.0.0", "keep", {"text": "late"}) for _ in range(20)]
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(client.run_batch(calls))
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: ask(gateway, "GET", f"/v1/users/{user}")["belongings"]["jobs"] > 3)
    ask(gateway, "DELETE", f"/v1/users/{user}")
    key = gateway.key(user)
    thread.join(20)
    assert isinstance(outcome[0], Exception), outcome
    assert ask(gateway, "GET", f"/v1/users/{user}")["belongings"]["jobs"] == 0
    assert ask(gateway, "GET", "/v1/files", key=key)["files"] == []
    assert ask(gateway, "GET", "/v1/quotas", key=key)["used"] == 0


def test_tokens_end_with_whoever_had_them_made(tmp_path: Path):
    gateway = Gateway(tmp_path / "data").start()
    try:
        evil = gateway.key("evil", "admin")
        tokens = []
        for _ in range(2):
            made = gateway.request("POST", "/v1/tokens", key=evil, json={"user": "victim", "ttl": 3600})
            tokens.append(made.json()["internal_token"])

        def status(token: str) -> int:
            return httpx.get(f"{gateway.url}/v1/secrets", headers={"X-Internal-Token": token}).status_code

        assert status(tokens[0]) == 200
        ask(gateway, "POST", "/v1/users/evil/disable")
        assert [status(token) for token in tokens] == [401, 401]
        ask(gateway, "POST", "/v1/users/evil/enable")
        assert status(tokens[0]) == 200
        ask(gateway, "DELETE", "/v1/users/evil")
        assert [status(token) for token in tokens] == [401, 401]
        gateway.stop()
        gateway.start()
        assert [status(token) for token in tokens] == [401, 401]
    finally:
        gateway.stop()


def test_a_proof_that_nobody_understands_is_not_passed_over_where_an_address_is_trusted(tmp_path: Path):
    with running_gateway(tmp_path / "data", "--trusted-network", "127.0.0.0/8") as gateway:
        for proof in (gateway.admin_key, "Basic YTpi", "Bearer", "bearer abc", "Bearer sk-none", "sk-"):
            for method, path in (("GET", "/v1/secrets"), ("POST", "/v1/run"), ("POST", "/v1/internal/run")):
                answer = httpx.request(method, gateway.url + path, headers={"Authorization": proof})
                assert (answer.status_code, answer.json()["detail"]["error_code"]) == (401, "UNAUTHENTICATED"), proof


def test_the_default_user_can_be_shut_out(tmp_path: Path):
    arguments = ("--trusted-network", "127.0.0.0/8", "--default-user", "guest")
    with running_gateway(tmp_path / "data", *arguments) as gateway:
        assert httpx.get(f"{gateway.url}/v1/secrets").status_code == 200
        ask(gateway, "POST", "/v1/users/guest/disable")
        assert httpx.get(f"{gateway.url}/v1/secrets").status_code == 401
        ask(gateway, "POST", "/v1/users/guest/enable")
        assert httpx.get(f"{gateway.url}/v1/secrets").status_code == 200
        ask(gateway, "DELETE", "/v1/users/guest")
        assert httpx.get(f"{gateway.url}/v1/secrets").status_code == 401


def test_what_was_begun_before_a_deletion_is_not_left_to_the_next_of_that_name(gateway: Gateway, user: str):
    """The agent is looked at for as long as it takes to answer; meanwhile its owner is deleted, and made anew."""
    key = gateway.key(user, "publish", "call")
    asked, go_on = threading.Event(), threading.Event()

    class Slow(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.set()
            go_on.wait(20)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    answers: list[httpx.Response] = []
    body = {"id": f"agent-of-{user}", "url": f"http://127.0.0.1:{server.server_port}"}
    adding = threading.Thread(target=lambda: answers.append(gateway.request("POST", "/v1/agents", key=key, json=body)))
    try:
        adding.start()
        assert asked.wait(10)
        ask(gateway, "DELETE", f"/v1/users/{user}")
        gateway.key(user)
        go_on.set()
        adding.join(20)
    finally:
        go_on.set()
        server.shutdown()
        server.server_close()
    assert answers[0].status_code == 401, answers[0].text
    assert ask(gateway, "GET", f"/v1/users/{user}")["belongings"]["agents"] == []


def test_tokens_for_others_are_written_down(gateway: Gateway, user: str):
    gateway.token(user, "desk")
    (entry,) = [
        entry
        for entry in ask(gateway, "GET", "/v1/audit", params={"action": "token.create"})["entries"]
        if entry["target"] == user
    ]
    assert entry["detail"]["agent"] == "desk"


def test_what_admins_did_is_written_down(gateway: Gateway, user: str):
    gateway.key(user)
    ask(gateway, "PUT", f"/v1/quotas/{user}", json={"limit": 3})
    body = {"prefab_id": "some-prefab", "secret_name": "A", "secret_value": "hush-hush", "user": user}
    ask(gateway, "POST", "/v1/secrets", 204, json=body)
    ask(gateway, "POST", f"/v1/users/{user}/disable")
    ask(gateway, "DELETE", f"/v1/users/{user}")
    log = ask(gateway, "GET", "/v1/audit", params={"limit": 1000})
    mine = [entry for entry in log["entries"] if user in (entry["target"], entry["detail"].get("user"))]
    assert [entry["action"] for entry in mine] == [
        "user.delete",
        "user.disable",
        "secret.set",
        "quota.set",
        "key.create",
        "user.create",
    ]
    assert {entry["actor"] for entry in mine} == {"admin"}
    assert all(entry["key_id"].startswith("key_") for entry in mine)
    assert "hush" not in str(log)
    assert {e["action"] for e in ask(gateway, "GET", "/v1/audit?action=quota")["entries"]} == {"quota.set"}
    first = ask(gateway, "GET", "/v1/audit?limit=1")
    second = ask(gateway, "GET", "/v1/audit", params={"limit": 1, "cursor": first["next_cursor"]})
    assert second["entries"][0]["id"] < first["entries"][0]["id"]


def test_what_users_do_with_their_own_secrets_is_theirs(gateway: Gateway, user: str):
    key = gateway.key(user)
    body = {"prefab_id": "some-prefab", "secret_name": "A", "secret_value": "x"}
    ask(gateway, "POST", "/v1/secrets", 204, key=key, json=body)
    log = ask(gateway, "GET", "/v1/audit", params={"actor": user})
    assert log["entries"] == []
