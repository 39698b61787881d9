import asyncio
import importlib.util
import json
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from gateway_sdk.testing import FakeGateway, Output

MAIN = Path(__file__).parents[1] / "main.py"
FILES = Path(__file__).parents[2] / "files"
# The guide's endpoints block on purpose; the SDK says so once.
pytestmark = pytest.mark.filterwarnings("ignore:GatewayClient blocks")
TOKEN = {"X-Internal-Token": "a-token"}


@pytest.fixture(scope="module")
def agent():
    spec = importlib.util.spec_from_file_location("guide_agent_main", MAIN)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ask(agent, method, path, **request):
    async def send():
        transport = httpx.ASGITransport(agent.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://agent.test") as client:
            return await client.request(method, path, **request)

    return asyncio.run(send())


@pytest.fixture
def gateway(agent, monkeypatch):
    fake = FakeGateway()
    urls = {}

    def download_file(s3_url):
        urls["https://store.test/signed"] = s3_url
        return "https://store.test/signed"

    def client(internal_token):
        made = fake.client(internal_token)
        monkeypatch.setattr(made, "download_file", download_file, raising=False)
        return made

    def get(url):
        return httpx.Response(200, content=fake.files[urls[url]], request=httpx.Request("GET", url))

    monkeypatch.setattr(agent, "GatewayClient", client)
    monkeypatch.setattr(agent.httpx, "get", get)
    return fake


@pytest.fixture
def call(agent, gateway):
    def post(path, session_id="s1", **parameters):
        body = {"parameters": parameters, "session_id": session_id}
        return ask(agent, "POST", path, headers=TOKEN, json=body).json()

    return post


def upload(gateway, tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    return str(gateway.client().upload_file(str(path)))


def test_health_needs_no_token_and_the_rest_does(agent):
    assert ask(agent, "GET", "/health").json() == {"status": "ok"}
    assert ask(agent, "POST", "/weather-advice", json={}).status_code == 422


def test_process_and_save(gateway, call, tmp_path):
    seen = {}

    @gateway.prefab("data-analyzer", "1.0.0")
    def analyze(files):
        seen["data"] = json.loads(gateway.files[files["input"][0]])
        return {"success": True, "content": "# 报告"}

    reply = call("/process-and-save", input_file=upload(gateway, tmp_path, "a.csv", "城市,n\n北京,1\n".encode("gbk")))
    assert reply["message"] == "处理成功"
    assert seen["data"] == [{"城市": "北京", "n": 1}]
    output = reply["data"][0]["metadata"]["output_file"]
    assert output.endswith("-final_result.txt")
    assert gateway.files[output].decode() == "# 报告"
    assert gateway.client().list_temp_files(session_id="s1") == []


def test_process_and_save_says_what_failed(gateway, call, tmp_path):
    @gateway.prefab("data-analyzer", "1.0.0")
    def analyze(files):
        return {"success": False, "error": "空文件"}

    url = upload(gateway, tmp_path, "a.txt", b"x")
    assert call("/process-and-save", input_file=url) == {"success": False, "message": "处理失败: 空文件"}
    assert call("/process-and-save")["message"] == "缺少必要参数: input_file"
    assert call("/process-and-save", input_file="s3://b/agent-outputs/none")["message"].startswith("处理异常: ")


def test_weather_advice(gateway, call):
    @gateway.prefab("weather-forecaster", "1.0.0")
    def get_forecast(location):
        if location == "nowhere":
            return {"success": False, "error": "没有这个地方"}
        if location == "broken":
            raise RuntimeError("boom")
        return {"success": True, "message": f"{location}晴", "data": {"temperature": 21}}

    assert call("/weather-advice", location="北京")["data"][0]["metadata"] == {"temperature": 21}
    assert call("/weather-advice", location="nowhere")["data"][0]["description"] == "没有这个地方"
    assert call("/weather-advice", location="broken")["message"] == "Prefab 调用失败"


def test_process_document(gateway, call, tmp_path):
    @gateway.prefab("document-processor", "1.0.0")
    def extract_text(files, language):
        return Output(
            {"success": True, "message": language, "data": {"word_count": 7}}, files={"output": {"a.txt": b"text"}}
        )

    reply = call("/process-document", document_url=upload(gateway, tmp_path, "a.pdf", b"%PDF"))
    (item,) = reply["data"]
    assert (item["description"], item["metadata"]["提取字数"]) == ("zh", 7)
    assert gateway.files[item["metadata"]["输出文件"]] == b"text"
    assert call("/process-document")["message"] == "缺少必要参数: document_url"


def test_translate_and_analyze(gateway, call):
    @gateway.prefab("translator", "1.0.0")
    def translate(text, target):
        return {"success": True, "translated_text": f"{text} in {target}"}

    @gateway.prefab("sentiment-analyzer", "1.0.0")
    def analyze(text):
        return {"success": True, "sentiment": "positive", "confidence": 0.9}

    (item,) = call("/translate-and-analyze", text="很好")["data"]
    assert item["metadata"] == {"原文": "很好", "译文": "很好 in en", "情感": "positive", "置信度": 0.9}
    assert call("/translate-and-analyze") == {"success": False, "message": "缺少文本参数"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"a": [1]}', {"a": [1]}),
        ("\ufeffx,y\n1,2.5\n,b\n".encode(), [{"x": 1, "y": 2.5}, {"x": None, "y": "b"}]),
        (b"one line, only", [{"line": 1, "text": "one line, only", "length": 14}]),
        ("散文，\n\n第二行".encode(), [
            {"line": 1, "text": "散文，", "length": 3},
            {"line": 2, "text": "第二行", "length": 3},
        ]),
        (b"", []),
    ],
)  # fmt: skip
def test_process_file(agent, content, expected):
    assert agent.process_file(content) == expected


def test_process_file_refuses_binary(agent):
    with pytest.raises(ValueError, match="不是文本"):
        agent.process_file(b"\xff\xfe\xff\xff")


def test_sample_files(agent):
    sales = agent.process_file((FILES / "sales.csv").read_bytes())
    assert len(sales) == 24
    assert (FILES / "季度报告.pdf").read_bytes().startswith(b"%PDF")
    assert (FILES / "meeting-notes.md").read_text("utf-8").startswith("# ")
    assert all(path.stat().st_size < 8192 for path in FILES.iterdir())


def test_it_runs():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {"PORT": str(port), "HOST": "127.0.0.1", "PATH": "", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen([sys.executable, str(MAIN)], env=environment, stderr=subprocess.PIPE, text=True)
    try:
        for line in process.stderr:
            if "Uvicorn running" in line:
                break
        assert httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).json() == {"status": "ok"}
    finally:
        process.terminate()
        process.communicate(timeout=20)
