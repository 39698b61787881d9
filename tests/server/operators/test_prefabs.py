"""Publishing, finding and removing over HTTP: what comes back, and who may."""

import json
import zipfile
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from gateways import Gateway, pack
from packages import write_package

SOURCE = '''
    import os

    SEEN = os.environ.get("MODEL")

    def greet(name: str) -> dict:
        """Say hello."""
        return {"text": f"Hello, {name}", "model": SEEN}
'''


@pytest.fixture
def prefab_id() -> str:
    return f"greeter-{uuid4().hex[:8]}"


@pytest.fixture
def folder(tmp_path: Path, prefab_id: str) -> Path:
    return write_package(tmp_path / "package", SOURCE, prefab_id=prefab_id)


def publish(gateway: Gateway, archive: bytes, *, name: str = "p.tar.gz", **options: Any) -> httpx.Response:
    form = {"settings": options.pop("settings")} if "settings" in options else None
    return gateway.request("POST", "/v1/prefabs", files={"file": (name, archive)}, data=form, **options)


def events(answer: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["detail"]["error_code"]


def wheel(folder: Path, target: Path, prefab_id: str) -> Path:
    stem = f"{prefab_id.replace('-', '_')}-1.0.0"
    path = target / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file in ("prefab-manifest.json", "src/__init__.py", "src/main.py"):
            archive.write(folder / file, file)
        metadata = f"Metadata-Version: 2.1\nName: {prefab_id}\nVersion: 1.0.0\n"
        archive.writestr(f"{stem}.dist-info/METADATA", metadata)
        archive.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{stem}.dist-info/RECORD", "")
    return path


def test_publish_find_and_remove(gateway: Gateway, folder: Path, prefab_id: str):
    answer = publish(gateway, pack(folder))
    assert answer.status_code == 201
    prefab = answer.json()
    assert (prefab["id"], prefab["version"], prefab["status"]) == (prefab_id, "1.0.0", "deployed")
    assert (prefab["owner"], prefab["functions"], prefab["error"]) == ("admin", ["greet"], None)
    assert publish(gateway, pack(folder)).status_code == 200  # the same once more changes nothing

    listed = gateway.request("GET", "/v1/prefabs?status=deployed").json()["prefabs"]
    assert listed[0] == prefab  # newest first
    spec = gateway.request("GET", f"/v1/prefabs/{prefab_id}/1.0.0/spec").json()
    assert set(spec) == {"id", "version", "name", "description", "functions"}
    assert spec["functions"] == json.loads((folder / "prefab-manifest.json").read_text())["functions"]

    assert gateway.request("DELETE", f"/v1/prefabs/{prefab_id}/1.0.0").status_code == 204
    assert code(gateway.request("GET", f"/v1/prefabs/{prefab_id}/1.0.0/spec")) == (404, "NOT_FOUND")
    assert gateway.request("DELETE", f"/v1/prefabs/{prefab_id}/1.0.0").status_code == 404


def test_functions_are_public(gateway: Gateway, folder: Path, prefab_id: str, tmp_path: Path):
    publish(gateway, pack(folder)).raise_for_status()
    later = write_package(tmp_path / "later", SOURCE.replace("greet", "salute"), prefab_id=prefab_id, version="1.10.0")
    publish(gateway, pack(later)).raise_for_status()
    between = write_package(tmp_path / "between", SOURCE, prefab_id=prefab_id, version="1.9.0")
    publish(gateway, pack(between)).raise_for_status()
    place = f"{gateway.url}/v1/public/prefabs/{prefab_id}/functions"
    assert httpx.get(place).json() == [{"name": "salute", "description": "Say hello."}]  # of the highest number
    assert [f["name"] for f in httpx.get(place, params={"version": "1.0.0"}).json()] == ["greet"]
    assert httpx.get(f"{place}/salute").json()["parameters"][0]["name"] == "name"
    assert code(httpx.get(f"{place}/greet")) == (404, "NOT_FOUND")
    assert code(httpx.get(f"{place}/greet", params={"version": "3.0.0"})) == (404, "NOT_FOUND")
    assert code(httpx.get(f"{gateway.url}/v1/public/prefabs/nobody/functions")) == (404, "NOT_FOUND")


def test_a_wheel_keeps_its_name(gateway: Gateway, folder: Path, prefab_id: str, tmp_path: Path):
    path = wheel(folder, tmp_path, prefab_id)
    answer = publish(gateway, path.read_bytes(), name=path.name)
    assert answer.status_code == 201, answer.text
    wrong = publish(gateway, path.read_bytes(), name="other-1.0.0-py3-none-any.whl")
    assert code(wrong) == (422, "VALIDATION_ERROR")


def test_progress_streams(gateway: Gateway, folder: Path, prefab_id: str):
    answer = publish(gateway, pack(folder), headers={"Accept": "text/event-stream"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    *lines, end = events(answer)
    assert lines
    assert {line["type"] for line in lines} == {"progress"}
    assert (end["type"], end["data"]["id"], end["data"]["status"]) == ("done", prefab_id, "deployed")


def test_a_refusal_ends_the_stream(gateway: Gateway, folder: Path):
    (folder / "src" / "main.py").write_text("def other(): ...\n")
    end = events(publish(gateway, pack(folder), headers={"Accept": "text/event-stream"}))[-1]
    assert (end["type"], end["error_code"]) == ("error", "VALIDATION_ERROR")
    assert "greet" in end["data"]
    assert end["detail"]["errors"][0]["pointer"] == "/functions/0/name"


def test_versions_never_change(gateway: Gateway, folder: Path):
    publish(gateway, pack(folder)).raise_for_status()
    main = folder / "src" / "main.py"
    main.write_text(main.read_text().replace("Hello", "Ahoy"))
    assert code(publish(gateway, pack(folder))) == (409, "VERSION_EXISTS")


def test_only_the_first_publisher_publishes_more(gateway: Gateway, folder: Path, prefab_id: str, tmp_path: Path):
    owner, other, caller = gateway.key("pat", "publish"), gateway.key("sam", "publish"), gateway.key("ann")
    assert code(publish(gateway, pack(folder), key=caller)) == (403, "PERMISSION_DENIED")
    publish(gateway, pack(folder), key=owner).raise_for_status()
    second = pack(write_package(tmp_path / "second", SOURCE, prefab_id=prefab_id, version="2.0.0"))
    place = f"/v1/prefabs/{prefab_id}/1.0.0"
    assert code(publish(gateway, second, key=other)) == (403, "PERMISSION_DENIED")
    assert code(gateway.request("DELETE", place, key=other)) == (403, "PERMISSION_DENIED")
    assert code(gateway.request("PUT", f"{place}/settings", json={}, key=other)) == (403, "PERMISSION_DENIED")
    assert code(gateway.request("GET", f"{place}/settings", key=other)) == (403, "PERMISSION_DENIED")
    assert publish(gateway, second, key=owner).status_code == 201
    assert gateway.request("GET", f"{place}/spec", key=caller).status_code == 200  # the catalogue is everybody's
    assert gateway.request("DELETE", place, key=owner).status_code == 204
    assert code(publish(gateway, pack(folder), key=other)) == (403, "PERMISSION_DENIED")  # the id stays its owner's


def test_failed_publishes_are_their_publishers_business(gateway: Gateway, folder: Path, prefab_id: str):
    (folder / "src" / "main.py").write_text("def other(): ...\n")
    pat, ann = gateway.key("pat", "publish"), gateway.key("ann")
    assert publish(gateway, pack(folder), key=pat).status_code == 422

    def seen(key: str | None) -> list[str]:
        failed = gateway.request("GET", "/v1/prefabs?status=failed", key=key).json()["prefabs"]
        return [prefab["error"] for prefab in failed if prefab["id"] == prefab_id]

    assert "greet" in seen(pat)[0]
    assert seen(None)
    assert seen(ann) == []


def test_settings_reach_the_code_and_are_not_told(gateway: Gateway, folder: Path, prefab_id: str):
    answer = publish(gateway, pack(folder), settings=json.dumps({"MODEL": "small"}))
    assert answer.status_code == 201, answer.text
    place = f"/v1/prefabs/{prefab_id}/1.0.0/settings"

    def model() -> Any:
        return gateway.client().run(prefab_id, "1.0.0", "greet", {"name": "x"}).get_function_result()["model"]

    assert model() == "small"
    assert gateway.request("GET", place).json() == {"names": ["MODEL"]}
    assert gateway.request("PUT", place, json={"MODEL": "large", "OTHER": "1"}).json() == {"names": ["MODEL", "OTHER"]}
    assert model() == "large"
    assert gateway.request("PATCH", place, json={"MODEL": None, "THIRD": ""}).json() == {"names": ["OTHER", "THIRD"]}
    assert model() is None
    assert code(gateway.request("PATCH", place, json={"PYTHONPATH": "/"})) == (422, "VALIDATION_ERROR")
    assert code(gateway.request("PUT", place, json={"A": "x\0"})) == (422, "VALIDATION_ERROR")
    for method in ("PUT", "PATCH"):
        half = gateway.request(method, place, content='{"A": "\\ud800"}', headers={"content-type": "application/json"})
        assert code(half) == (422, "VALIDATION_ERROR")
    assert code(gateway.request("PUT", place, json={"A": 1})) == (422, "VALIDATION_ERROR")
    assert gateway.request("GET", place).json() == {"names": ["OTHER", "THIRD"]}


@pytest.mark.parametrize("settings", ["[1]", "{", '{"A": 1}', '"x"', '{"A": "\\u0000"}'])
def test_settings_must_be_texts(gateway: Gateway, folder: Path, settings: str):
    assert code(publish(gateway, pack(folder), settings=settings)) == (422, "VALIDATION_ERROR")


@pytest.mark.parametrize("name", ["../../evil.tar.gz", "a/b\\c.tar.gz", "..", "x" * 250, "\u202e.tar.gz"])
def test_the_name_of_an_archive_is_no_path(gateway: Gateway, folder: Path, name: str):
    assert publish(gateway, pack(folder), name=name).status_code == 201


def test_what_is_no_package(gateway: Gateway):
    assert code(publish(gateway, b"nothing")) == (422, "VALIDATION_ERROR")
    assert code(gateway.request("POST", "/v1/prefabs", files={"other": b"x"})) == (422, "VALIDATION_ERROR")
    assert code(gateway.request("POST", "/v1/prefabs", json={})) == (422, "VALIDATION_ERROR")
    assert code(gateway.request("POST", "/v1/prefabs")) == (422, "VALIDATION_ERROR")
    assert httpx.post(f"{gateway.url}/v1/prefabs", files={"file": b"x"}).status_code == 401


def test_nothing_of_an_upload_stays_behind(gateway: Gateway, folder: Path):
    publish(gateway, pack(folder))
    publish(gateway, b"nothing")
    publish(gateway, pack(folder), headers={"Accept": "text/event-stream"})
    assert list((gateway.data / "incoming").iterdir()) == []


@pytest.mark.parametrize(
    ("marks", "pointer"),
    [
        ({}, "/body"),
        ({"colour": "red"}, "/body/colour"),
        ({"deprecated": "use 2", "colour": "red"}, "/body/colour"),
        ({"deprecated": ""}, "/body/deprecated"),
        ({"yanked": "one\ntwo"}, "/body/yanked"),
        ({"yanked": "\x1b[2J"}, "/body/yanked"),
    ],
)
def test_marks_that_say_nothing_readable(
    gateway: Gateway, folder: Path, prefab_id: str, marks: dict[str, str], pointer: str
):
    publish(gateway, pack(folder)).raise_for_status()
    place = f"/v1/prefabs/{prefab_id}/1.0.0"
    before = gateway.request("GET", f"{place}/spec").json()
    answer = gateway.request("PATCH", place, json=marks)
    assert code(answer) == (422, "VALIDATION_ERROR")
    assert answer.json()["detail"]["errors"][0]["pointer"] == pointer
    assert gateway.request("GET", f"{place}/spec").json() == before
    assert gateway.request("PATCH", place, json={"deprecated": "请用 2.0.0"}).json()["deprecated"] == "请用 2.0.0"


def test_a_status_that_no_version_has(gateway: Gateway):
    assert code(gateway.request("GET", "/v1/prefabs?status=foo")) == (422, "VALIDATION_ERROR")
    assert [gateway.request("GET", f"/v1/prefabs?status={s}").status_code for s in ("building", "failed")] == [200, 200]
    described = gateway.request("GET", "/openapi.json").json()["paths"]["/v1/prefabs"]["get"]["parameters"]
    assert '"enum": ["building", "deployed", "failed"]' in json.dumps(described)


def test_words_find_what_is_deployed(gateway: Gateway, folder: Path, prefab_id: str):
    publish(gateway, pack(folder)).raise_for_status()

    def search(**query: str) -> httpx.Response:
        return gateway.request("GET", "/v1/prefabs", params={"q": prefab_id, **query})

    assert [prefab["id"] for prefab in search(status="deployed").json()["prefabs"]] == [prefab_id]
    assert code(search(status="failed")) == (422, "VALIDATION_ERROR")


@pytest.mark.parametrize("mark", ["deprecated", "yanked"])
def test_an_answer_has_the_form_that_is_described(gateway: Gateway, folder: Path, prefab_id: str, mark: str):
    publish(gateway, pack(folder)).raise_for_status()
    gateway.request("PATCH", f"/v1/prefabs/{prefab_id}/1.0.0", json={mark: "use another"}).raise_for_status()
    call = {"prefab_id": prefab_id, "version": "1.0.0", "function_name": "greet"}
    call["inputs"] = {"parameters": {"name": "x"}}
    answer = gateway.request("POST", "/v1/run", json={"calls": [call]})
    described = gateway.request("GET", "/openapi.json").json()
    schemas = described["components"]["schemas"]
    assert set(answer.json()) == set(schemas["RunAnswer"]["properties"])
    (result,) = answer.json()["results"]
    assert set(result) == set(schemas["Result"]["properties"])
    headers = described["paths"]["/v1/run"]["post"]["responses"]["200"]["headers"]
    assert {name.lower() for name in headers} == {name for name in answer.headers if name.startswith("x-")}
    assert answer.headers["x-prefab-warning"] == mark
    assert mark in headers["X-Prefab-Warning"]["schema"]["enum"]
