"""The guide of the SDK, run as it is written: its blocks against a real gateway, its listings against the SDK.

The guide stands in docs/ word for word. Beside it gateway-sdk-guide.substitutions.toml says of every block of Python
what happens to it and what is put in the place of its placeholders; nothing else is changed. `make guide` runs it.
"""

import ast
import inspect
import json
import os
import re
import runpy
import socket
import subprocess
import sys
import threading
import time
import tomllib
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
import uvicorn
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
SUBSTITUTIONS = tomllib.loads((ROOT / "docs" / "gateway-sdk-guide.substitutions.toml").read_text("utf-8"))
INSTEAD = {int(number): pairs for number, pairs in SUBSTITUTIONS["instead"].items()}
PREFABS = (
    "examples/echo",
    "prefabs/data-analyzer",
    "prefabs/document-processor",
    "prefabs/file-processing-prefab",
    "prefabs/llm-client",
    "prefabs/sentiment-analyzer",
    "prefabs/translator",
    "prefabs/video-processor",
)
REVIEW = "这家酒店很好，我们非常满意。"
TRANSLATIONS = {"Hello": "你好", "World": "世界", REVIEW: "This hotel is great, we are very satisfied."}


def module_of(prefab):
    """The tests of a prefab, in which stands a server that behaves like the service which the prefab calls."""
    (path,) = (ROOT / "prefabs" / prefab / "tests").glob("test_*.py")
    return runpy.run_path(str(path))


@pytest.fixture(scope="module")
def model():
    """A language model on loopback: it knows three translations, and says hello to everything else."""

    def answer(handler, body):
        asked = re.sub(r"</?text-\d+>", "", body["messages"][-1]["content"]).strip()
        is_text = body["messages"][-1]["content"].startswith("<text-")
        handler.begin()
        for piece in TRANSLATIONS[asked] if is_text else "你好":
            handler.delta(piece)
        handler.end()

    server = module_of("llm-client")["Server"](answer)
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def weather():
    """The weather service on loopback."""
    server = module_of("weather-forecaster")["Server"]()
    yield f"http://127.0.0.1:{server.server_port}"
    server.released.set()
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def guide(tmp_path_factory, model, weather):
    """A fresh gateway with the prefabs that the guide names, and the token that it would send to an agent."""
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

        for path in PREFABS:
            gateway("prefab", "publish", str(ROOT / path))
        addresses = [f"--env=OPEN_METEO_URL={weather}", f"--env=OPEN_METEO_GEOCODING_URL={weather}"]
        gateway("prefab", "publish", str(ROOT / "prefabs/weather-forecaster"), *addresses)
        gateway("secret", "set", "llm-client", "OPENAI_API_KEY", "--user", "ada", stdin="sk-of-the-test-only")
        gateway("secret", "set", "llm-client", "OPENAI_BASE_URL", "--user", "ada", stdin=model)
        token = gateway("token", "create", "--user", "ada", "--agent", "guide")
        person = {**settings, "GATEWAY_API_KEY": gateway("key", "create", "--user", "ada")}
        yield SimpleNamespace(url=url, token=token, gateway=gateway, settings=settings, person=person)
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
    film = tmp_path / "input.mp4"
    film.write_bytes(module_of("video-processor")["clip"]())
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
        "guide": guide,
        "token": guide.token,
        "video": client.upload_input_file(film),
    }
    client.cleanup_temp_files()


def text_of(number, **values):
    """A block, with what stands instead of its placeholders."""
    text = BLOCKS[number]
    for shown, meant in INSTEAD.get(number, {}).items():
        assert shown in text
        for name, value in values.items():
            meant = meant.replace(f"{{{name}}}", str(value))
        text = text.replace(shown, meant)
    return text


def run(number, names):
    """Runs a block."""
    exec(compile(text_of(number, here=names["here"]), f"block {number}", "exec"), names)
    return names


@contextmanager
def behind_the_gateway(guide, app):
    """The app as an agent: it listens, is registered, and is called through the gateway by a person with an API key."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        guide.gateway("agent", "add", "guide", f"http://127.0.0.1:{listener.getsockname()[1]}")
        yield
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


def post(guide, path, parameters, **body):
    """Calls the agent as a person does."""
    command = [
        str(BIN / "gateway"),
        "agent",
        "call",
        "guide",
        path,
        "-d",
        json.dumps({"parameters": parameters, **body}),
    ]
    done = subprocess.run(command, env=guide.person, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_every_block_is_accounted_for():
    parts = (SUBSTITUTIONS[part] for part in ("run", "signature", "class"))
    assert sorted(number for part in parts for number in part) == sorted(BLOCKS)


def test_quick_start(names, guide):
    run(1, names)
    with behind_the_gateway(guide, names["app"]):
        assert post(guide, "/your-endpoint", {}) is None


def test_call_without_files(names, capsys):
    result = run(2, names)["result"]
    assert result.is_success()
    assert result.get_function_result()["content"] == "你好"
    assert "'content': '你好'" in capsys.readouterr().out


def test_call_with_files(names, capsys):
    result = run(3, names)["result"]
    assert result.is_success(), result.error
    (sound,) = names["output_files"]["output"]
    assert httpx.get(names["client"].download_file(sound)).content[:3] in (b"ID3", b"\xff\xfb\x90")
    assert capsys.readouterr().out.startswith("输出文件: {'output': ['s3://")


def test_batch(names, capsys):
    result = run(5, names)["result"]
    assert [item.get_function_result()["translated_text"] for item in result.results] == ["你好", "世界"]
    assert "'translated_text': '世界'" in capsys.readouterr().out


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


def test_parse_a_file(names, capsys):
    run(20, names)
    shown = capsys.readouterr().out
    assert "业务错误" not in shown
    assert "调用失败" not in shown
    assert names["function_result"]["content"]
    assert f"输出文件 S3 URL: {names['output_s3_url']}" in shown


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


def test_process_and_save(names, guide):
    run(1, names)  # the client of a request
    run(30, names)
    with behind_the_gateway(guide, names["app"]):
        reply = post(guide, "/process-and-save", {}, session_id="s1")
        assert reply["message"].startswith("处理异常: ")
        reply = post(guide, "/process-and-save", {"input_file": names["notes"]}, session_id="s1")
    assert reply["message"] == "处理成功", reply
    saved = reply["data"][0]["metadata"]["output_file"]
    assert httpx.get(names["client"].download_file(saved)).text.startswith("# Data analysis")
    assert names["client"].list_temp_files(session_id="s1") == []


def test_files_for_a_prefab(names):
    run(32, names)
    found = [url.rsplit("/", 1)[1] for url in names["output_files"]["output_docs"]]
    assert sorted(found) == ["meeting-notes.txt", "季度报告.txt"]


@pytest.fixture
def whole_agent(guide, tmp_path):
    """The complete agent of the guide, as the program that it is."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    program = tmp_path / "agent.py"
    program.write_text(text_of(33, port=port), "utf-8")
    process = subprocess.Popen([sys.executable, "-W", "ignore", str(program)], env=guide.settings)
    try:
        ends = time.monotonic() + 40
        while True:
            add = [str(BIN / "gateway"), "agent", "add", "guide", f"http://127.0.0.1:{port}"]
            added = subprocess.run(add, env=guide.settings, capture_output=True, text=True)
            if added.returncode == 0:  # the gateway looks whether somebody is there
                break
            assert process.poll() is None
            assert time.monotonic() < ends, added.stderr
        yield
    finally:
        process.terminate()
        process.wait(20)


def test_the_whole_agent(guide, names, whole_agent):
    reply = post(guide, "/process-document", {"document_url": names["pdf"]})
    assert reply["data"][0]["metadata"]["提取字数"] == 88
    assert reply["data"][0]["metadata"]["输出文件"].endswith("/季度报告.txt")
    assert post(guide, "/process-document", {})["message"] == "缺少必要参数: document_url"

    reply = post(guide, "/translate-and-analyze", {"text": REVIEW})
    assert reply["success"], reply
    told = reply["data"][0]["metadata"]
    assert (told["译文"], told["情感"]) == (TRANSLATIONS[REVIEW], "positive")
    assert 0 < told["置信度"] <= 1

    reply = post(guide, "/weather-advice", {"location": "北京"})
    assert reply["message"] == "查询成功", reply
    assert "北京" in reply["data"][0]["description"]
    assert reply["data"][0]["metadata"]
    reply = post(guide, "/weather-advice", {"location": "不存在的地方"})
    assert reply["message"] == "业务执行失败"


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


@pytest.mark.parametrize("number", SUBSTITUTIONS["signature"])
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


@pytest.mark.parametrize("number", SUBSTITUTIONS["class"])
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
