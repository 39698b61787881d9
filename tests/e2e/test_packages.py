"""Packages written to the contract publish and run unmodified, from folder and wheel."""

import json
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from gateways import Gateway, pack, running_gateway
from packages import write_package
from uv import find_uv_bin

from gateway_sdk import GatewayClient

ROOT = Path(__file__).parent.parent.parent
PREFABS = ROOT / "prefabs"
SAMPLES = ROOT / "examples" / "files"


def wheel(folder: Path, out: Path) -> Path:
    command = [find_uv_bin(), "build", "--quiet", "--wheel", "--out-dir", str(out), str(folder)]
    subprocess.run(command, check=True, timeout=120)
    (built,) = out.glob("*.whl")
    return built


def upload(gateway: Gateway, name: str, content: bytes) -> httpx.Response:
    return gateway.request("POST", "/v1/prefabs", files={"file": (name, content)})


def test_a_wheel_and_its_folder_are_the_same_version(gateway: Gateway, folder: Path):
    built = wheel(ROOT / "examples" / "echo", folder / "dist")
    assert built.name == "echo-1.0.0-py3-none-any.whl"
    first = upload(gateway, built.name, built.read_bytes())
    assert first.status_code == 201, first.text
    again = upload(gateway, "echo.tar.gz", pack(ROOT / "examples" / "echo"))
    assert again.status_code == 200, again.text
    assert gateway.client().run("echo", "1.0.0", "echo", {"text": "x"}).get_function_result()["text"] == "x"


def test_the_data_analyzer_analyses(gateway: Gateway):
    gateway.publish(PREFABS / "data-analyzer")
    client = gateway.client("analyst", "desk")
    url = client.upload_temp_file(str(SAMPLES / "sales.csv"), ttl_hours=1)
    result = client.run("data-analyzer", "1.0.0", "analyze", {}, files={"input": [url]}).get_function_result()
    assert result["success"] is True
    assert isinstance(result["content"], str)
    assert len(result["content"]) > 100
    assert isinstance(result["data"], dict)


def test_the_document_processor_takes_both_sets_of_keys(gateway: Gateway):
    gateway.publish(PREFABS / "document-processor")
    client = gateway.client("reader", "desk")
    pdf = client.upload_file(str(SAMPLES / "季度报告.pdf"))
    notes = client.upload_file(str(SAMPLES / "meeting-notes.md"))
    run = ("document-processor", "1.0.0", "extract_text", {"language": "zh"})
    two = client.run(*run, files={"input_docs": [pdf, notes]})
    assert len(two.get_files()["output_docs"]) == 2
    one = client.run(*run, files={"input": [pdf]})
    assert one.get_function_result()["success"] is True
    assert one.get_function_result()["data"]["word_count"] > 10
    (output,) = one.get_files()["output"]
    assert output.endswith("季度报告.txt")
    assert len(httpx.get(client.download_file(output)).text) > 10


class Model(BaseHTTPRequestHandler):
    """Answers as an OpenAI-compatible endpoint does."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        if self.headers["authorization"] != "Bearer sk-right-key":
            self._answer(401, "application/json", b'{"error":{"message":"Incorrect API key"}}')
            return
        pieces = [{"choices": [{"delta": {"content": word}}]} for word in ("Good ", "day")]
        text = "".join(f"data: {json.dumps(piece)}\n\n" for piece in pieces) + "data: [DONE]\n\n"
        self._answer(200, "text/event-stream", text.encode())

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def model_url():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def open_gateway(tmp_path: Path):
    """One whose functions may reach this machine, where the model of the tests is."""
    with running_gateway(tmp_path / "data", "--allow-loopback") as started:
        yield started


def test_the_llm_client_chats_with_the_users_own_key(open_gateway: Gateway, model_url: str):
    gateway = open_gateway
    gateway.publish(PREFABS / "llm-client")
    key = gateway.key("chatty")
    for name, value in {"OPENAI_API_KEY": "sk-right-key", "OPENAI_BASE_URL": model_url, "OPENAI_MODEL": "m"}.items():
        secret = {"prefab_id": "llm-client", "secret_name": name, "secret_value": value}
        assert gateway.request("POST", "/v1/secrets", key=key, json=secret).status_code == 204
    client = GatewayClient.from_api_key(key, base_url=gateway.url)
    chat = ("llm-client", "1.0.0", "chat", {"messages": [{"role": "user", "content": "Hello"}]})
    answer = client.run(*chat).get_function_result()
    assert (answer["success"], answer["content"]) == (True, "Good day")
    events = list(client.run(*chat, stream=True))
    assert [event.data for event in events if event.type == "content"] == ["Good ", "day"]
    assert events[-1].data["content"] == "Good day"
    wrong = {"prefab_id": "llm-client", "secret_name": "OPENAI_API_KEY", "secret_value": "sk-wrong-key-123"}
    gateway.request("POST", "/v1/secrets", key=key, json=wrong)
    refused = client.run(*chat)
    assert refused.get_function_result()["success"] is False
    assert "sk-wrong-key-123" not in json.dumps(refused.output)


SEVERAL = """
import os
from pathlib import Path

def make(title: str = "结果"):
    for key in ("charts", "tables"):
        folder = Path("data/outputs", key)
        folder.mkdir()
        (folder / f"{title}.txt").write_text(key)
    Path("data/outputs/stray.txt").write_text("stray")
    return {"secret": os.environ["FIRST"][:1] + os.environ.get("SECOND", "-")}
"""


def test_several_outputs_secrets_and_names_beyond_ascii(gateway: Gateway, folder: Path):
    group = {"type": "array", "items": {"type": "OutputFile"}, "required": False, "minItems": 3, "maxItems": 1}
    functions = {
        "make": {
            "files": {"charts": group, "tables": group},
            "secrets": [{"name": "FIRST", "description": ""}, {"name": "SECOND", "description": "", "required": False}],
        }
    }
    package = write_package(folder, SEVERAL, prefab_id="several", functions=functions, manifest={"name": "多个"})
    published = gateway.publish(package)
    assert any("maxItems" in warning["pointer"] for warning in published["warnings"])
    key = gateway.key("maker")
    secret = {"prefab_id": "several", "secret_name": "FIRST", "secret_value": "x"}
    gateway.request("POST", "/v1/secrets", key=key, json=secret)
    result = GatewayClient.from_api_key(key, base_url=gateway.url).run("several", "1.0.0", "make", {})
    assert result.get_function_result() == {"secret": "x-"}
    files = {k: [url.rsplit("/", 1)[1] for url in urls] for k, urls in result.get_files().items()}
    assert files == {"charts": ["结果.txt"], "tables": ["结果.txt"], "output": ["stray.txt"]}


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("no-function", {"functions": []}, "functions"),
        ("Bad_Id", {"id": "Bad_Id"}, "/id"),
        ("bad-version", {"version": "one"}, "/version"),
        ("ghost", {"functions": [{"name": "ghost", "description": "", "parameters": []}]}, "ghost"),
    ],
)
def test_packages_that_cannot_work_are_refused_with_the_reason_and_leave_nothing(
    gateway: Gateway, folder: Path, name: str, change: dict, told: str
):
    package = write_package(folder, "def f():\n    return 1\n", prefab_id=name, manifest=change)
    answer = upload(gateway, "p.tar.gz", pack(package))
    assert answer.status_code == 422, answer.text
    assert told in json.dumps(answer.json()["detail"], ensure_ascii=False)
    listed = gateway.request("GET", "/v1/prefabs?status=deployed").json()["prefabs"]
    assert name not in {prefab["id"] for prefab in listed}


def test_an_impossible_dependency_is_told_and_leaves_nothing(gateway: Gateway, folder: Path):
    package = write_package(folder, "def f():\n    return 1\n", prefab_id="greedy", dependencies=("six>=999",))
    answer = upload(gateway, "p.tar.gz", pack(package))
    assert answer.status_code == 422
    assert "six" in answer.json()["detail"]["message"]
    shown = gateway.request("GET", "/v1/prefabs?status=failed").json()["prefabs"]
    assert "six" in next(prefab["error"] for prefab in shown if prefab["id"] == "greedy")
    assert not (gateway.data / "prefabs" / "greedy").exists()


def test_libraries_without_a_wheel_are_built_where_the_operator_allows_it(tmp_path: Path, gateway: Gateway):
    source = "import docopt\n\ndef version():\n    return docopt.__version__\n"
    package = write_package(tmp_path / "package", source, prefab_id="from-source", dependencies=("docopt==0.6.2",))
    refused = upload(gateway, "p.tar.gz", pack(package))
    assert refused.status_code == 422
    assert "--allow-source-builds" in refused.json()["detail"]["message"]
    with running_gateway(tmp_path / "data", "--allow-source-builds") as generous:
        generous.publish(package)
        assert generous.client().run("from-source", "1.0.0", "version", {}).get_function_result() == "0.6.2"
