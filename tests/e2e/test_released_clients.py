"""Clients that were released before this gateway work with it unmodified. Each runs in an environment of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from gateways import Gateway
from packages import write_package
from uv import find_uv_bin

STREAMING = """
import time

def talk(n: int):
    for i in range(n):
        time.sleep(0.05)
        yield {"type": "content", "data": f"w{i} "}
    yield {"type": "done", "data": {"success": True, "n": n}}
"""

SCRIPT = """
import json, os, sys, tempfile, time
import httpx
from gateway_sdk import GatewayClient, PrefabCall, exceptions
from gateway_sdk.models import CallStatus, StreamEventType

url, token, key = sys.argv[1:4]
client = GatewayClient(internal_token=token, base_url=url)
told = {}

result = client.run("behaves", "1.0.0", "echo", {"text": "hi"})
told["run"] = [result.status == "SUCCESS", result.output["output"], result.output["files"], bool(result.job_id)]
told["omits"] = client.run("behaves", "1.0.0", "add", {"a": 1}).output["output"]

batch = client.run_batch([
    PrefabCall("behaves", "1.0.0", "echo", {"text": "1"}),
    PrefabCall("behaves", "1.0.0", "nowhere", {}),
])
told["batch"] = [batch.status, [r.status.value for r in batch.results], batch.results[1].error["error_code"]]

def kind(call):
    try:
        call()
    except Exception as error:
        return [type(error).__name__, {k: v for k, v in vars(error).items() if k in ("limit", "used", "quota_type", "secret_name")}]

told["errors"] = {
    "auth": kind(lambda: GatewayClient(internal_token="bad", base_url=url).run("behaves", "1.0.0", "echo", {"text": ""})),
    "not_found": kind(lambda: client.run("nope", "1.0.0", "echo", {})),
    "invalid": kind(lambda: client.run("behaves", "1.0.0", "echo", {})),
    "secret": kind(lambda: client.run("behaves", "1.0.0", "environment", {})),
    "crash": kind(lambda: client.run("misbehaves", "1.0.0", "exits_hard", {})),
    "quota": kind(lambda: GatewayClient(internal_token=os.environ["POOR"], base_url=url).run("behaves", "1.0.0", "echo", {"text": ""})),
    "no_agent": kind(lambda: GatewayClient.from_api_key(key, base_url=url).upload_file(__file__)),
    "bad_key": kind(lambda: GatewayClient.from_api_key("sk-bad", base_url=url)),
}
told["failed"] = client.run("misbehaves", "1.0.0", "raises", {}).error["type"]

began = time.monotonic()
events = [(e.type.value, e.data, time.monotonic() - began) for e in client.run("talks", "1.0.0", "talk", {"n": 3}, stream=True)]
told["stream"] = [[kind, data] for kind, data, _ in events if kind != "start"]
told["live"] = events[1][2] < events[-1][2]

folder = tempfile.mkdtemp()
path = os.path.join(folder, "文件 a.txt")
open(path, "w").write("bytes")
stored = client.upload_file(path)
told["upload"] = [stored["success"], stored["filename"], stored["size"]]
for n in range(3):
    temporary = client.upload_temp_file(path, ttl=600, session_id="s-1")
listed = client.list_temp_files(session_id="s-1", limit=2)
rest = client.list_temp_files(session_id="s-1", limit=2, continuation_token=listed["next_token"])
told["pages"] = [len(listed["files"]), len(rest["files"]), "next_token" in rest, {"key", "size", "last_modified", "s3_url"} <= set(listed["files"][0])]
back = os.path.join(folder, "back", "x.txt")
client.download_file(stored["s3_url"], back)
told["download"] = open(back).read()
told["presigned"] = httpx.get(client.get_presigned_url(stored["s3_url"])).text
told["list"] = [f["s3_url"] for f in client.list_files()["files"]] == [stored["s3_url"]]
told["clean"] = client.cleanup_temp_files(session_id="s-1")

outside = GatewayClient.from_api_key(key, base_url=url)
given = outside.upload_input_file(path, content_type="text/plain")
told["input"] = outside.run("behaves", "1.0.0", "reads", {}, files={"input": [given]}).get_function_result()
json.dump(told, sys.stdout)
"""

OLDEST = """
import json, sys
from gateway_sdk import GatewayClient, PrefabCall
url, token, key = sys.argv[1:4]
told = {}
for name, client in (("key", GatewayClient(base_url=url, api_key=key)), ("jwt", GatewayClient(base_url=url, jwt_token=token))):
    result = client.run("behaves", "1.0.0", "echo", {"text": name})
    batch = client.run_batch([PrefabCall("behaves", "1.0.0", "add", {"a": 1}), PrefabCall("behaves", "1.0.0", "add", {"a": "x"})])
    events = [e.type.value for e in client.run("talks", "1.0.0", "talk", {"n": 2}, stream=True)]
    told[name] = [result.output["output"]["text"], [r.status.value for r in batch.results], events[-1]]
json.dump(told, sys.stdout)
"""


@pytest.fixture(scope="module")
def ready(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Gateway:
    folder = tmp_path_factory.mktemp("talks")
    gateway.publish(write_package(folder, STREAMING, prefab_id="talks", functions={"talk": {"streaming": True}}))
    gateway.request("PUT", "/v1/quotas/poor", json={"limit": 0, "period": "day"})
    return gateway


def converse(gateway: Gateway, folder: Path, version: str, script: str) -> dict:
    """Runs `script` with a released client, which is installed where nothing of ours is."""
    target = folder / "client"
    wanted = f"agent-builder-gateway-sdk=={version}"
    subprocess.run(
        [find_uv_bin(), "pip", "install", "--quiet", "--python", sys.executable, "--target", str(target), wanted],
        check=True,
        timeout=120,
    )
    (folder / "script.py").write_text(script)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(target), "POOR": gateway.token("poor", "helper")}
    arguments = [gateway.url, gateway.token("released", "helper"), gateway.key("released")]
    python = getattr(sys, "_base_executable", sys.executable)
    done = subprocess.run(
        [python, "-S", str(folder / "script.py"), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_latest_released_client(ready: Gateway, folder: Path):
    told = converse(ready, folder, "0.7.2", SCRIPT)
    assert told["run"] == [True, {"success": True, "text": "hi"}, {}, True]
    assert told["omits"] == 3
    assert told["batch"] == ["PARTIAL_SUCCESS", ["SUCCESS", "FAILED"], "NOT_FOUND"]
    errors = told["errors"]
    assert {name: error[0] for name, error in errors.items()} == {
        "auth": "AuthenticationError",
        "not_found": "PrefabNotFoundError",
        "invalid": "ValidationError",
        "secret": "MissingSecretError",
        "crash": "ServiceUnavailableError",
        "quota": "QuotaExceededError",
        "no_agent": "AgentContextRequiredError",
        "bad_key": "AuthenticationError",
    }
    assert errors["secret"][1] == {"secret_name": "API_SECRET"}
    assert errors["quota"][1] == {"limit": 0, "used": 0, "quota_type": "calls_per_day"}
    assert told["failed"] == "ValueError"
    words = [["content", f"w{i} "] for i in range(3)]
    assert told["stream"] == [*words, ["done", {"success": True, "n": 3}]]
    assert told["live"]
    assert told["upload"] == [True, "文件 a.txt", 5]
    assert told["pages"] == [2, 1, False, True]
    assert told["download"] == told["presigned"] == "bytes"
    assert told["list"]
    assert told["clean"] == 3
    assert told["input"] == [["input", "文件 a.txt", "bytes"]]


def test_the_oldest_released_client(ready: Gateway, folder: Path):
    told = converse(ready, folder, "0.2.0", OLDEST)
    assert told == {name: [name, ["SUCCESS", "FAILED"], "done"] for name in ("key", "jwt")}
