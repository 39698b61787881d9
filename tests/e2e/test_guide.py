"""The guide of the SDK, run as it is written: its blocks against a real gateway, its listings against the SDK.

The guide stands in docs/ word for word. `PARTS` says of every block of Python what happens to it; what is put in the
place of its placeholders stands in `INSTEAD`, and nothing else is changed.
"""

import ast
import asyncio
import inspect
import json
import os
import runpy
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from docs_pages import ROOT, blocks
from fastapi import Depends, FastAPI, Header

import gateway_sdk
from gateway_sdk import CallStatus, GatewayClient, PrefabCall, StreamEventType

# Its endpoints use the blocking client in `async def`, as the guide has them; the SDK says so once.
pytestmark = pytest.mark.filterwarnings("ignore:GatewayClient blocks")

BIN = Path(sys.executable).parent
BLOCKS = {
    number: block.text
    for number, block in enumerate(blocks(ROOT / "docs" / "gateway-sdk-guide.zh-CN.md"))
    if block.language == "python"
}
PARTS = {
    "run": {1, 2, 4, 6, 7, 17, 18, 19, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39},
    "signature": {8, 9, 10, 11, 12, 13, 14, 15},
    "class": {16, 22, 23},
    "not yet": {3, 5, 20},
}
NOT_YET = {
    "video-processor": 3,
    "translator": 5,
    "file-processing-prefab": 20,
    "weather-forecaster": 33,
    "sentiment-analyzer": 33,
}
"""Prefabs that the guide calls and that do not exist here, with the block that needs each."""
CHAT = '"llm-client", "1.0.0", "chat", {"messages": [{"role": "user", "content": "Hello"}]}'
REPORT = 'prefab_id="document-processor", version="1.0.0", function_name="extract_text", parameters={}, '
INSTEAD = {
    1: {"your-prefab": "echo", "your_function": "echo", "{...}": '{"text": "你好"}'},
    4: {"...": CHAT},
    6: {"client.run(...)": 'client.run("no-such-prefab", "1.0.0", "x", {})'},
    17: {"client.run(...)": f'client.run({REPORT}files={{"input": [pdf]}})'},
    24: {"/tmp/": "{here}/"},
    25: {"/tmp/": "{here}/"},
    26: {"/tmp/": "{here}/", '"s3://bucket/path/to/file.pdf"': "pdf"},
    30: {"/tmp/": "{here}/"},
    31: {'"..."': "token"},
    32: {'"s3://bucket/document1.pdf"': "pdf", '"s3://bucket/document2.pdf"': "notes"},
    36: {"...": CHAT},
    38: {"/tmp/": "{here}/", '"s3://bucket/path/file.pdf"': "pdf"},
}
"""Block -> what its placeholders stand for."""


@pytest.fixture(scope="module")
def model():
    """A language model on loopback."""
    server_class = runpy.run_path(str(ROOT / "prefabs" / "llm-client" / "tests" / "test_chat.py"))["Server"]

    def answer(handler, _body):
        handler.begin()
        for piece in ("你", "好"):
            handler.delta(piece)
        handler.end()

    server = server_class(answer)
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def guide(tmp_path_factory, model):
    """A gateway with the prefabs that exist, and the token that it would send to an agent."""
    folder = tmp_path_factory.mktemp("guide")
    command = [str(BIN / "gateway"), "serve", "--port", "0", "--allow-loopback", "--data", str(folder / "data")]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        ends = time.monotonic() + 40
        while "listening on " not in (text := (folder / "log").read_text()):
            assert process.poll() is None, text
            assert time.monotonic() < ends, text
            time.sleep(0.05)
        url = text.partition("listening on ")[2].split()[0]
        key = (folder / "data" / "admin.key").read_text().strip()
        settings = {**os.environ, "GATEWAY_BASE_URL": url, "GATEWAY_API_KEY": key}

        def gateway(*arguments, stdin=None):
            done = subprocess.run(
                [str(BIN / "gateway"), *arguments], env=settings, input=stdin, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
            return done.stdout.strip()

        for path in ("examples/echo", "prefabs/data-analyzer", "prefabs/document-processor", "prefabs/llm-client"):
            gateway("prefab", "publish", str(ROOT / path))
        gateway("secret", "set", "llm-client", "OPENAI_API_KEY", "--user", "ada", stdin="sk-of-the-test-only")
        gateway("secret", "set", "llm-client", "OPENAI_BASE_URL", "--user", "ada", stdin=model)
        token = gateway("token", "create", "--user", "ada", "--agent", "guide")
        yield SimpleNamespace(url=url, token=token)
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def names(guide, tmp_path, monkeypatch):
    """What the guide's blocks take for granted."""
    monkeypatch.setenv("GATEWAY_BASE_URL", guide.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for name, text in (("result.txt", "fertig"), ("temp_data.json", "[1]"), ("temp.json", "[2]")):
        (tmp_path / name).write_text(text)
    client = GatewayClient(internal_token=guide.token)
    calls = [PrefabCall("echo", "1.0.0", "echo", inputs) for inputs in ({"text": "a"}, {"wrong": "b"})]
    yield {
        "__name__": "guide",
        "Any": object,
        "Depends": Depends,
        "Dict": dict,
        "GatewayClient": GatewayClient,
        "Header": Header,
        "StreamEventType": StreamEventType,
        "app": FastAPI(),
        "calls": calls,
        "client": client,
        "here": tmp_path,
        "httpx": httpx,
        "json": json,
        "notes": client.upload_input_file(ROOT / "examples/files/meeting-notes.md"),
        "pdf": client.upload_input_file(ROOT / "examples/files/季度报告.pdf"),
        "process_file": lambda content: [{"bytes": len(content)}],
        "some_condition": True,
        "token": guide.token,
    }
    client.cleanup_temp_files()


def run(number, names):
    """A block, with what stands instead of its placeholders."""
    text = BLOCKS[number]
    for shown, meant in INSTEAD.get(number, {}).items():
        assert shown in text
        text = text.replace(shown, meant.replace("{here}", str(names["here"])))
    exec(compile(text, f"block {number}", "exec"), names)
    return names


def post(names, path, parameters, **body):
    """A request to the agent, as the gateway sends it."""

    async def send():
        transport = httpx.ASGITransport(names["app"])
        async with httpx.AsyncClient(transport=transport, base_url="http://agent.test", timeout=60) as client:
            headers = {"X-Internal-Token": names["token"]}
            return await client.post(path, headers=headers, json={"parameters": parameters, **body})

    answer = asyncio.run(send())
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_every_block_is_accounted_for():
    assert sorted(number for part in PARTS.values() for number in part) == sorted(BLOCKS)


def test_what_is_not_there_yet_does_not_grow():
    assert len(NOT_YET) == 5
    assert PARTS["not yet"] | {33} == set(NOT_YET.values())
    assert [name for name in NOT_YET if (ROOT / "prefabs" / name).exists()] == [], "it exists now: run its blocks"
    assert all(f'prefab_id="{name}"' in BLOCKS[number] for name, number in NOT_YET.items())


def test_quick_start(names):
    run(1, names)
    assert post(names, "/your-endpoint", {}) is None


def test_call_without_files(names, capsys):
    result = run(2, names)["result"]
    assert result.is_success()
    assert result.get_function_result()["content"] == "你好"
    assert "'content': '你好'" in capsys.readouterr().out


def test_stream(names, capsys):
    run(4, names)
    assert capsys.readouterr().out == "你好\n完成\n"


def test_errors(names, capsys):
    run(6, names)
    assert capsys.readouterr().out.startswith("预制件不存在: ")


def test_a_client_with_another_timeout(names):
    run(7, names)
    assert names["get_gateway_client"]("t").timeout == 60
    assert names["get_gateway_client_with_timeout"]("t").timeout == 120
    assert run(31, names)["client"].timeout == 120
    assert run(34, names)["client"].timeout == 60
    assert run(35, names)["get_gateway_client"]("t").timeout == 120


def test_the_address_needs_no_setting(names, monkeypatch):
    monkeypatch.delenv("GATEWAY_BASE_URL")
    assert GatewayClient(internal_token="t").base_url == "http://agent-builder-gateway.default.svc.cluster.local"


def test_the_shape_of_a_result(names):
    real = names["client"].run("document-processor", "1.0.0", "extract_text", {}, files={"input": [names["pdf"]]})
    told = run(17, names)["result"].output
    assert real.output.keys() == told.keys() == {"status", "output", "files"}
    assert (real.output["status"], told["status"]) == ("SUCCESS", "SUCCESS")
    assert real.output["files"]["output"][0].startswith("s3://")
    assert real.status == CallStatus.SUCCESS == "SUCCESS"
    assert real.job_id


@pytest.mark.parametrize("number", [18, 39])
def test_the_function_result(names, number):
    call = names["client"].run
    names["result"] = call("document-processor", "1.0.0", "extract_text", {}, files={"input": [names["pdf"]]})
    run(number, names)
    assert names["success"] is True
    assert names["message"]


def test_the_files_of_a_result(names):
    call = names["client"].run
    names["result"] = call("document-processor", "1.0.0", "extract_text", {}, files={"input": [names["pdf"]]})
    run(19, names)
    assert names["all_file_urls"] == [names["output_s3_url"]]
    assert names["output_s3_url"].endswith("/季度报告.txt")


def test_files_of_an_agent(names, capsys):
    today = time.strftime("%Y/%m/%d", time.gmtime())
    kept = run(24, names)["s3_url"]
    assert kept.startswith(f"s3://agent-builder/agent-outputs/ada/guide/{today}/")
    assert kept.endswith("-result.txt")
    temporary = run(25, names)["s3_url"]
    assert temporary.startswith("s3://agent-builder/agent-workspace/ada/guide/task-123/")
    assert temporary.endswith("-temp_data.json")
    run(26, names)
    assert (names["here"] / "downloaded.pdf").read_bytes() == (ROOT / "examples/files/季度报告.pdf").read_bytes()
    run(27, names)
    assert names["files"] == []  # nothing was kept on that day
    assert kept in names["client"].list_files()
    assert kept in names["client"].list_files(prefix=f"{today}/")
    run(28, names)
    assert names["temp_files"] == [temporary]
    run(29, names)
    assert capsys.readouterr().out == "已删除 1 个临时文件\n"
    assert names["deleted_count"] == 0


def test_files_in_the_questions(names):
    run(38, names)
    assert names["response"].content.startswith(b"%PDF")
    assert httpx.get(names["client"].download_file(names["s3_url"])).text == "fertig"
    assert "/agent-workspace/" in names["temp_url"]


def test_process_and_save(names):
    run(1, names)  # the client of a request
    run(30, names)
    reply = post(names, "/process-and-save", {}, session_id="s1")
    assert reply["message"].startswith("处理异常: ")
    body = {"parameters": {"input_file": names["notes"]}, "session_id": "s1"}
    reply = post(names, "/process-and-save", body["parameters"], session_id="s1")
    assert reply["message"] == "处理成功", reply
    saved = reply["data"][0]["metadata"]["output_file"]
    assert httpx.get(names["client"].download_file(saved)).text.startswith("# Data analysis")
    assert names["client"].list_temp_files(session_id="s1") == []


def test_files_for_a_prefab(names):
    run(32, names)
    found = [url.rsplit("/", 1)[1] for url in names["output_files"]["output_docs"]]
    assert sorted(found) == ["meeting-notes.txt", "季度报告.txt"]


def test_the_whole_agent(names):
    run(33, names)
    reply = post(names, "/process-document", {"document_url": names["pdf"]})
    assert reply["data"][0]["metadata"]["提取字数"] == 88
    assert reply["data"][0]["metadata"]["输出文件"].endswith("/季度报告.txt")
    assert post(names, "/process-document", {})["message"] == "缺少必要参数: document_url"
    reply = post(names, "/translate-and-analyze", {"text": "很好"})
    assert "translator" in reply["message"]  # not there yet
    with pytest.raises(gateway_sdk.PrefabNotFoundError, match="weather-forecaster"):
        post(names, "/weather-advice", {"location": "北京"})


def test_break_ends_a_stream(names):
    run(36, names)
    assert names["event"].type == StreamEventType.START


def test_a_batch_in_which_one_fails(names, capsys):
    run(37, names)
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "{'success': True, 'text': 'a'}"
    assert "VALIDATION_ERROR" in shown[1]
    assert names["result"].get_failed() == [names["result"].results[1]]
    assert not names["result"].all_success()


@pytest.mark.parametrize("number", sorted(PARTS["signature"]))
def test_signatures(number):
    """Each listing names a method with its parameters and defaults; the SDK's may have more behind them."""
    listing = ast.parse(f"def {_without_comments(BLOCKS[number])}: ...")
    (told,) = listing.body
    assert isinstance(told, ast.FunctionDef)
    real = list(inspect.signature(getattr(GatewayClient, told.name)).parameters.values())[1:]
    names = [argument.arg for argument in told.args.args]
    assert [parameter.name for parameter in real][: len(names)] == names
    assert all(parameter.default is not inspect.Parameter.empty for parameter in real[len(names) :])
    defaults = [ast.literal_eval(default) for default in told.args.defaults]
    assert [parameter.default for parameter in real][len(names) - len(defaults) : len(names)] == defaults
    required = real[: len(names) - len(defaults)]
    assert all(parameter.default is inspect.Parameter.empty for parameter in required)


def _without_comments(text):
    return "\n".join(line.partition("#")[0].rstrip() for line in text.strip().splitlines())


@pytest.mark.parametrize("number", sorted(PARTS["class"]))
def test_classes(number, names):
    """Each listing names a class with its attributes and methods."""
    text = "\n".join(
        line.rstrip() + (": ..." if line.strip().startswith("def ") else "")
        for line in _without_comments(BLOCKS[number]).splitlines()
        if '"""' not in line
    ).replace("::", ":")
    (told,) = [node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]
    batch = names["client"].run_batch(names["calls"])
    event = next(iter(names["client"].run("echo", "1.0.0", "count", {"n": 1}, stream=True)))
    value = {"PrefabResult": batch.results[0], "BatchResult": batch, "StreamEvent": event}[told.name]
    assert isinstance(value, getattr(gateway_sdk, told.name))
    for member in told.body:
        name = member.target.id if isinstance(member, ast.AnnAssign) else getattr(member, "name", None)
        if name is not None:
            assert hasattr(value, name)
            assert callable(getattr(value, name)) == isinstance(member, ast.FunctionDef)


def test_the_kinds_of_events():
    assert {kind.name for kind in StreamEventType} == {"START", "CONTENT", "PROGRESS", "DONE", "ERROR"}
