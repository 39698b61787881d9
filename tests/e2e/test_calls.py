"""Calls as users make them: the SDK, over HTTP, through a gateway started by its command, into real processes."""

import asyncio
import concurrent.futures
import hashlib
import json
import os
import signal
import threading
import time
from pathlib import Path

import httpx
import pytest
from gateways import Gateway, command_line, descendants, running_gateway, until
from packages import write_package, zoo

from gateway_sdk import AsyncGatewayClient, CallStatus, GatewayClient, PrefabCall, exceptions

BEHAVES, MISBEHAVES = ("behaves", "1.0.0"), ("misbehaves", "1.0.0")


def test_a_plain_call(gateway: Gateway):
    result = gateway.client().run(*BEHAVES, "echo", {"text": "你好"})
    assert result.status == CallStatus.SUCCESS == "SUCCESS"
    assert result.get_function_result() == {"success": True, "text": "你好"}
    assert result.output == {"status": "SUCCESS", "output": {"success": True, "text": "你好"}, "files": {}}
    job = gateway.request("GET", f"/v1/jobs/{result.job_id}").json()
    assert (job["status"], job["prefab_id"], job["function_name"]) == ("succeeded", "behaves", "echo")
    assert job["result"]["output"] == {"success": True, "text": "你好"}


def test_refusals_have_their_exceptions(gateway: Gateway):
    client = gateway.client()
    with pytest.raises(exceptions.PrefabNotFoundError, match=r"there are: 1\.0\.0"):
        client.run("behaves", "9.9.9", "echo", {"text": ""})
    with pytest.raises(exceptions.PrefabNotFoundError, match="Did you mean behaves"):
        client.run("behavez", "1.0.0", "echo", {"text": ""})
    with pytest.raises(exceptions.PrefabNotFoundError, match="no function"):
        client.run(*BEHAVES, "ecco", {"text": ""})
    with pytest.raises(exceptions.ValidationError) as invalid:
        client.run(*BEHAVES, "add", {"a": True, "b": "x", "c": 1})
    assert {problem["pointer"] for problem in invalid.value.errors} == {
        "/parameters/a",
        "/parameters/b",
        "/parameters/c",
    }
    with pytest.raises(exceptions.MissingSecretError) as missing:
        client.run(*BEHAVES, "environment", {})
    assert (missing.value.secret_name, missing.value.prefab_id) == ("API_SECRET", "behaves")
    assert "Get one at the desk." in (missing.value.instructions or "")
    for token in ("nonsense", "a.b.c", gateway.token("ann")[:-3] + "abc"):
        with pytest.raises(exceptions.AuthenticationError):
            GatewayClient(internal_token=token, base_url=gateway.url).run(*BEHAVES, "echo", {"text": ""})
    with pytest.raises(exceptions.AuthenticationError):
        GatewayClient(base_url=gateway.url).run(*BEHAVES, "echo", {"text": ""})


def test_failures_of_functions_are_results(gateway: Gateway):
    client = gateway.client()
    result = client.run(*MISBEHAVES, "raises", {})
    assert result.status == CallStatus.FAILED
    assert result.error == {"error_code": "PREFAB_ERROR", "type": "ValueError", "message": "no such luck"}
    log = gateway.request("GET", f"/v1/jobs/{result.job_id}/logs").text
    assert "ValueError: no such luck" in log
    assert client.run(*BEHAVES, "business_failure", {}).is_success()
    assert client.run(*BEHAVES, "nothing", {}).output == {"status": "SUCCESS", "output": None, "files": {}}
    with pytest.raises(exceptions.RuntimeCrashedError, match="exited with code 3"):
        client.run(*MISBEHAVES, "exits_hard", {})
    with pytest.raises(exceptions.DeadlineExceededError):
        gateway.client(timeout=0.5).run(*MISBEHAVES, "hangs", {})
    assert client.run(*MISBEHAVES, "exits", {}).error["type"] == "SystemExit"


def test_forged_answers_do_not_leave_the_call_that_forged_them(gateway: Gateway):
    calls = [PrefabCall(*MISBEHAVES, "forges", {}), PrefabCall(*BEHAVES, "echo", {"text": "untouched"})]
    results = gateway.client().run_batch(calls).results
    assert results[1].get_function_result() == {"success": True, "text": "untouched"}


def test_secrets_reach_the_call_and_nothing_else(gateway: Gateway):
    key = gateway.key("sue")
    secret = {"prefab_id": "behaves", "secret_name": "API_SECRET", "secret_value": "s3cr3t-value-42"}
    assert gateway.request("POST", "/v1/secrets", key=key, json=secret).status_code == 204
    names = gateway.request("GET", "/v1/secrets/behaves", key=key).json()
    assert names == {"prefab_id": "behaves", "secret_names": ["API_SECRET"]}
    client = GatewayClient.from_api_key(key, base_url=gateway.url)
    seen = client.run(*BEHAVES, "environment", {}).get_function_result()
    assert seen["API_SECRET"] == "s3cr3t-value-42"
    assert client.run(*BEHAVES, "whoami", {}).is_success()
    with pytest.raises(exceptions.MissingSecretError):
        gateway.client("tom").run(*BEHAVES, "environment", {})
    for file in gateway.data.rglob("*"):
        if file.is_file() and "work" not in file.parts:
            assert b"s3cr3t-value-42" not in file.read_bytes() or b'"API_SECRET"' in file.read_bytes(), file


def test_streams_arrive_while_the_function_runs(gateway: Gateway):
    began = time.monotonic()
    arrived = [
        (e.type, time.monotonic() - began)
        for e in gateway.client().run(*BEHAVES, "tokens", {"n": 5, "delay": 0.2}, stream=True)
    ]
    kinds = [kind for kind, _ in arrived]
    assert kinds == ["start", *["content"] * 5, "done"]
    assert arrived[1][1] < arrived[-1][1] - 0.5


def test_a_plain_caller_gets_a_generator_folded_and_a_plain_function_can_be_streamed(gateway: Gateway):
    client = gateway.client()
    assert client.run(*BEHAVES, "tokens", {"n": 2}).get_function_result() == {"content": "t0 t1 "}
    events = list(client.run(*BEHAVES, "echo", {"text": "x"}, stream=True))
    assert [event.type for event in events] == ["start", "done"]
    assert events[-1].data == {"status": "SUCCESS", "output": {"success": True, "text": "x"}, "files": {}}
    failed = list(client.run(*BEHAVES, "says_error", {}, stream=True))[-1]
    assert (failed.type, failed.data, failed.error_code) == ("error", "no more paper", "OUT_OF_PAPER")


@pytest.mark.parametrize("how", ["break", "close"])
def test_leaving_a_stream_ends_its_process(gateway: Gateway, how: str):
    stream = gateway.client("leaver").run(*MISBEHAVES, "yields_forever", {}, stream=True)
    for event in stream:
        if event.type == "content":
            break
    job_id = stream.job_id
    if how == "close":
        stream.close()
    del stream, event
    path = f"/v1/jobs/{job_id}"
    until(lambda: gateway.request("GET", path).json()["status"] == "canceled", 2.0, "the end of the function")


def test_a_batch_runs_side_by_side_and_one_bad_item_leaves_the_others(gateway: Gateway):
    calls = [PrefabCall(*BEHAVES, "sleeps", {"seconds": 1.0}) for _ in range(20)]
    calls[7] = PrefabCall(*BEHAVES, "sleeps", {"seconds": "long"})
    began = time.monotonic()
    batch = gateway.client("batcher").run_batch(calls)
    took = time.monotonic() - began
    assert batch.status == "PARTIAL_SUCCESS"
    assert len(batch.get_failed()) == 1
    assert batch.results[7].error["error_code"] == "VALIDATION_ERROR"
    assert len({result.job_id for result in batch.results}) == 20
    assert took < 6, "20 calls of 1 s, 16 at a time, take two rounds"
    job = gateway.request("GET", f"/v1/jobs/{batch.job_id}").json()
    assert [child["status"] for child in job["children"]].count("succeeded") == 19


def test_files_of_an_agent(gateway: Gateway, folder: Path):
    client = gateway.client("filer", "archivist")
    path = folder / "报告 2026.txt"
    path.write_text("内容")
    url = client.upload_file(str(path), "text/plain")
    assert url.startswith("s3://")
    assert "/agent-outputs/filer/archivist/" in url
    assert httpx.get(client.download_file(url)).text == "内容"
    temporary = client.upload_temp_file(str(path), ttl_hours=1, session_id="s1")
    assert client.list_files() == [url]
    assert client.list_temp_files(session_id="s1") == [temporary]
    result = client.run(*BEHAVES, "reads", {}, files={"input": [url, temporary]})
    assert result.get_function_result() == [["input", "报告 2026 (2).txt", "内容"], ["input", "报告 2026.txt", "内容"]]
    assert client.cleanup_temp_files(session_id="s1") == 1
    assert client.list_temp_files() == []
    stranger = gateway.client("stranger", "archivist")
    with pytest.raises(exceptions.AuthenticationError):
        stranger.download_file(url)
    with pytest.raises(exceptions.AuthenticationError):
        stranger.run(*BEHAVES, "reads", {}, files={"input": [url]})
    with pytest.raises(exceptions.AgentContextRequiredError):
        gateway.client("filer", None).upload_file(str(path))


def test_output_files(gateway: Gateway):
    client = gateway.client("writer")
    result = client.run(*BEHAVES, "writes", {"names": ["a.txt", "结果.txt", "deep/b.txt"]})
    urls = result.get_files()["result"]
    assert [url.rsplit("/", 1)[1] for url in urls] == ["a.txt", "b.txt", "结果.txt"]
    assert httpx.get(client.download_file(urls[2])).text == "content of 结果.txt"
    assert "/prefab-outputs/writer/" in urls[0]
    streamed = list(client.run(*BEHAVES, "writes", {"names": ["x"]}, stream=True))[-1]
    assert [url.rsplit("/", 1)[1] for url in streamed.files["result"]] == ["x"]


def test_users_never_share_a_process(gateway: Gateway):
    def process(user: str) -> tuple[int, int]:
        told = gateway.client(user).run(*BEHAVES, "whoami", {}).get_function_result()
        return told["pid"], told["uid"]

    one, two = process("first"), process("second")
    if gateway.request("GET", "/ready").json()["isolation"] == "uids":
        assert one[1] != two[1]
        assert 0 not in (one[1], two[1])
    if gateway.request("GET", "/ready").json()["isolation"] != "pids":  # there each sees itself alone
        assert one[0] != two[0]
    assert process("first") == one  # their own serves them again


def test_functions_call_other_functions_as_their_caller(gateway: Gateway, folder: Path):
    source = """
        import os
        from gateway_sdk import GatewayClient, exceptions

        def outer(text: str):
            client = GatewayClient()
            result = client.run("behaves", "1.0.0", "echo", {"text": text})
            return {"inner": result.get_function_result(), "job": result.job_id}

        def snoops():
            seen = {}
            for name, path in (("secrets", "/v1/secrets"), ("jobs", "/v1/jobs"), ("keys", "/v1/keys")):
                import httpx
                answer = httpx.get(os.environ["GATEWAY_BASE_URL"] + path,
                                   headers={"X-Internal-Token": os.environ["X_INTERNAL_TOKEN"]})
                seen[name] = answer.status_code
            return seen
    """
    gateway.publish(write_package(folder, source, prefab_id="nests", dependencies=("agent-builder-gateway-sdk",)))
    client = gateway.client("nester")
    result = client.run("nests", "1.0.0", "outer", {"text": "in"})
    assert result.is_success(), result.error
    told = result.get_function_result()
    assert told["inner"] == {"success": True, "text": "in"}
    inner = gateway.request("GET", f"/v1/jobs/{told['job']}").json()
    assert (inner["user"], inner["root_id"]) == ("nester", result.job_id)
    assert client.run("nests", "1.0.0", "snoops", {}).get_function_result() == {
        "secrets": 403,
        "jobs": 403,
        "keys": 403,
    }


def test_quotas_are_exact_under_concurrency(gateway: Gateway):
    gateway.request("PUT", "/v1/quotas/frugal", json={"limit": 25, "period": "day"})
    client = gateway.client("frugal", max_retries=0)

    def call(_: int) -> str:
        try:
            return client.run(*BEHAVES, "echo", {"text": ""}).status
        except exceptions.QuotaExceededError as error:
            assert (error.limit, error.used) == (25, 25)
            return "refused"

    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        outcomes = list(threads.map(call, range(60)))
    assert outcomes.count("SUCCESS") == 25
    assert gateway.request("GET", "/v1/quotas?user=frugal").json()["used"] == 25


def test_clients_leak_nothing(gateway: Gateway):
    token = gateway.token("many", "helper")

    def call(_: int) -> None:
        GatewayClient(internal_token=token, base_url=gateway.url).run(*BEHAVES, "echo", {"text": ""})

    def connections() -> int:
        return len(os.listdir(f"/proc/{os.getpid()}/fd"))

    with concurrent.futures.ThreadPoolExecutor(50) as threads:
        list(threads.map(call, range(100)))
        settled = connections()
        list(threads.map(call, range(900)))
        assert connections() <= settled + 2

    async def twice() -> None:
        clients = [AsyncGatewayClient(internal_token=token, base_url=gateway.url) for _ in range(50)]
        await asyncio.gather(*[client.run(*BEHAVES, "echo", {"text": ""}) for client in clients])

    asyncio.run(twice())
    after = connections()
    asyncio.run(twice())
    assert connections() <= after + 2


def test_agents_are_called_as_the_user(gateway: Gateway, folder: Path):
    import http.server

    class Agent(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            client = GatewayClient(internal_token=self.headers["X-Internal-Token"], base_url=gateway.url)
            result = client.run(*BEHAVES, "echo", {"text": json.loads(body)["parameters"]["text"]})
            url = client.upload_file(str(folder / "x.txt"))
            answer = json.dumps({"success": True, "data": [result.get_function_result()], "url": url}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    (folder / "x.txt").write_text("x")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Agent)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        agent = {"id": "scribe", "url": f"http://127.0.0.1:{server.server_port}"}
        assert gateway.request("POST", "/v1/agents", json=agent).is_success
        smuggled = {"X-Internal-Token": gateway.token("somebody-else", "other")}
        answer = httpx.post(
            f"{gateway.url}/v1/agents/scribe/write",
            json={"parameters": {"text": "via agent"}},
            headers={"Authorization": f"Bearer {gateway.key('paula')}"},
            timeout=30,
        )
        assert answer.json()["data"] == [{"success": True, "text": "via agent"}]
        assert "/agent-outputs/paula/scribe/" in answer.json()["url"]
        mixed = httpx.post(
            f"{gateway.url}/v1/agents/scribe/write",
            json={"parameters": {"text": "x"}},
            headers=smuggled,
            timeout=30,
        )
        assert "/agent-outputs/somebody-else/scribe/" in mixed.json()["url"]
    finally:
        server.shutdown()
        server.server_close()


def test_kill_leaves_no_process_and_loses_nothing(folder: Path):
    with running_gateway(folder / "data") as gateway:
        gateway.publish(zoo(folder / "behaves", "behaves"))
        gateway.publish(zoo(folder / "misbehaves", "misbehaves"))
        client = gateway.client("ann", "helper", timeout=30, max_retries=0)
        (folder / "kept.txt").write_text("kept")
        url = client.upload_file(str(folder / "kept.txt"))
        done = client.run(*BEHAVES, "echo", {"text": "kept"})
        hanging = threading.Thread(target=lambda: pytest.raises(Exception, client.run, *MISBEHAVES, "escapes", {}))
        hanging.start()
        until(lambda: len(gateway.workers()) >= 5, what="the daemon's start")
        below = descendants(gateway.pid)
        mounts = Path("/proc/self/mounts").read_text().count(str(folder))
        os.kill(gateway.pid, signal.SIGKILL)
        until(lambda: not [pid for pid in below if command_line(pid)], 2.0, "the end of all processes")
        assert not [
            found for depth in ("", "*/") for found in Path("/sys/fs/cgroup").glob(f"{depth}prefabs.{gateway.pid}.*")
        ]
        assert Path("/proc/self/mounts").read_text().count(str(folder)) == mounts == 0
        hanging.join(20)
        gateway.stop()
        gateway.start()
        client = gateway.client("ann", "helper")
        assert httpx.get(client.download_file(url)).text == "kept"
        assert client.list_files() == [url]
        assert gateway.request("GET", f"/v1/jobs/{done.job_id}").json()["status"] == "succeeded"
        assert client.run(*BEHAVES, "echo", {"text": "again"}).is_success()


def test_a_published_version_never_changes(gateway: Gateway, folder: Path):
    source = "def f():\n    return 1\n"
    first = write_package(folder / "a", source, prefab_id="fixed")
    assert gateway.publish(first)["status"] == "deployed"
    assert gateway.publish(first)["status"] == "deployed"
    other = write_package(folder / "b", "def f():\n    return 2\n", prefab_id="fixed")
    from gateways import pack

    answer = gateway.request("POST", "/v1/prefabs", files={"file": ("p.tar.gz", pack(other))})
    assert (answer.status_code, answer.json()["detail"]["error_code"]) == (409, "VERSION_EXISTS")
    write_package(folder / "c", "def f():\n    return 2\n", prefab_id="fixed", version="1.1.0")
    gateway.publish(folder / "c")
    client = gateway.client()
    assert [client.run("fixed", v, "f", {}).get_function_result() for v in ("1.0.0", "1.1.0")] == [1, 2]
    key = gateway.key("thief", "publish", "call")
    write_package(folder / "d", "def f():\n    return 3\n", prefab_id="fixed", version="2.0.0")
    stolen = gateway.request("POST", "/v1/prefabs", key=key, files={"file": ("p.tar.gz", pack(folder / "d"))})
    assert stolen.status_code == 403


def test_a_two_part_upload_and_its_checksum(gateway: Gateway, folder: Path):
    path = folder / "big.bin"
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        for n in range(40):
            block = bytes([n]) * (1 << 20)
            digest.update(block)
            file.write(block)
    client = gateway.client("heavy", "mover")
    seen: list[int] = []
    url = client.upload_file(str(path), "application/octet-stream")
    assert (url.size, url.sha256) == (40 << 20, digest.hexdigest())
    client.save_file(url, str(folder / "back.bin"), progress=lambda done, total: seen.append(done))
    assert hashlib.sha256((folder / "back.bin").read_bytes()).hexdigest() == digest.hexdigest()
    assert seen[-1] == 40 << 20


def test_canceling_a_batch_ends_what_runs_and_begins_no_more(gateway: Gateway):
    calls = [PrefabCall(*MISBEHAVES, "hangs", {}) for _ in range(30)]
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        running = threads.submit(gateway.client("quitter").run_batch, calls)
        key = gateway.key("quitter")

        def started() -> str | None:
            jobs = gateway.request("GET", "/v1/jobs", key=key).json()["jobs"]
            return jobs[0]["id"] if jobs else None

        batch_id = until(started, what="the batch's record")
        children = f"/v1/jobs/{batch_id}"
        until(lambda: len(gateway.request("GET", children, key=key).json()["children"]) >= 16, what="16 calls")
        assert gateway.request("POST", f"/v1/jobs/{batch_id}/cancel", key=key).json()["canceled"]
        batch = running.result(20)
    assert [result.error["error_code"] for result in batch.results] == ["CANCELED"] * 30
    job = gateway.request("GET", children, key=key).json()
    assert [one["status"] for one in (job, *job["children"])] == ["canceled"] * 31


def test_calls_of_a_batch_that_its_deadline_lets_not_begin_expire(gateway: Gateway):
    prefab_id, version, function = *MISBEHAVES, "hangs"
    named = {"prefab_id": prefab_id, "version": version, "function_name": function, "inputs": {"parameters": {}}}
    body = {"calls": [named] * 60, "stream": False}
    key = gateway.key("expires")
    answer = gateway.request("POST", "/v1/run", key=key, json=body, headers={"Cancel-After": "1s"}, timeout=60)
    assert {result["error"]["error_code"] for result in answer.json()["results"]} == {"DEADLINE_EXCEEDED"}
    job = gateway.request("GET", f"/v1/jobs/{answer.json()['job_id']}", key=key).json()
    statuses = {one["status"] for one in job["children"]}
    assert "expired" in statuses
    assert statuses <= {"timed_out", "expired"}


NESTS = """
from gateway_sdk import GatewayClient

def opens_and_leaves():
    stream = GatewayClient().run("misbehaves", "1.0.0", "yields_forever", {}, stream=True)
    for event in stream:
        if event.type == "content":
            return stream.job_id

def waits_below():
    GatewayClient().run("misbehaves", "1.0.0", "hangs", {})

def deeper(level: int):
    result = GatewayClient().run("burrows", "1.0.0", "deeper", {"level": level + 1})
    return result.get_function_result() or {"error": str(result.error)}
"""


@pytest.fixture(scope="module")
def burrows(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Gateway:
    folder = tmp_path_factory.mktemp("burrows")
    gateway.publish(write_package(folder, NESTS, prefab_id="burrows", dependencies=("agent-builder-gateway-sdk",)))
    return gateway


def test_a_function_may_end_the_calls_that_it_made(burrows: Gateway):
    inner = burrows.client("nested").run("burrows", "1.0.0", "opens_and_leaves", {}).get_function_result()
    until(lambda: burrows.request("GET", f"/v1/jobs/{inner}").json()["status"] == "canceled", 2.0)


def test_the_end_of_a_call_is_the_end_of_the_calls_below_it(burrows: Gateway):
    with pytest.raises(exceptions.DeadlineExceededError):
        burrows.client("deep", timeout=1.5).run("burrows", "1.0.0", "waits_below", {})
    key = burrows.key("deep")
    ended = lambda: [job["status"] for job in burrows.request("GET", "/v1/jobs", key=key).json()["jobs"]]  # noqa: E731
    until(lambda: len(ended()) == 2 and "running" not in ended(), 3.0)


def test_functions_that_call_themselves_come_to_an_end(burrows: Gateway):
    result = burrows.client("endless", timeout=60).run("burrows", "1.0.0", "deeper", {"level": 0})
    assert "levels deep" in json.dumps(result.error or result.output)
    assert burrows.request("GET", "/v1/quotas?user=endless").json()["used"] == 17  # the refused one was not charged


def test_a_batch_has_one_deadline_for_all_of_its_calls(gateway: Gateway):
    calls = [PrefabCall(*BEHAVES, "sleeps", {"seconds": 1.5}) for _ in range(20)]
    began = time.monotonic()
    batch = gateway.client("hasty", timeout=2).run_batch(calls)
    assert time.monotonic() - began < 4
    codes = [(result.error or {}).get("error_code") for result in batch.results]
    assert codes[0] is None
    assert codes[-1] == "DEADLINE_EXCEEDED"
