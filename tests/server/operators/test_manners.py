"""Manners of the catalogue: versions are deprecated, yanked, found by words, called as latest, never torn away."""

import threading
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from gateways import Gateway, until
from packages import write_package

from gateway_sdk import PrefabCall, PrefabNotFoundError

SOURCE = """
import time
from pathlib import Path

def number():
    return {number}

def sleeps(seconds: float):
    time.sleep(seconds)
    return "done"

def counts():
    yield {{"type": "content", "data": "a"}}
"""


@pytest.fixture
def prefab_id() -> str:
    return f"versioned-{uuid4().hex[:8]}"


@pytest.fixture
def publish(gateway: Gateway, tmp_path: Path, prefab_id: str) -> Callable[[str], None]:
    def publish(version: str) -> None:
        source = SOURCE.format(number=version.replace(".", ""))
        gateway.publish(write_package(tmp_path / version, source, prefab_id=prefab_id, version=version))

    return publish


def mark(gateway: Gateway, prefab_id: str, version: str, **marks: str | None) -> dict[str, object]:
    answer = gateway.request("PATCH", f"/v1/prefabs/{prefab_id}/{version}", json=marks)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_latest_is_the_highest_number_and_is_told(gateway: Gateway, prefab_id: str, publish: Callable[[str], None]):
    client = gateway.client()
    with pytest.raises(PrefabNotFoundError):
        client.run(prefab_id, "latest", "number", {})
    for version in ("1.9.0", "1.10.0", "1.2.0"):
        publish(version)
        result = client.run(prefab_id, "latest", "number", {})
        assert result.version == ("1.9.0" if version == "1.9.0" else "1.10.0")
    assert result.get_result() == 1100
    job = gateway.request("GET", f"/v1/jobs/{result.job_id}").json()
    assert job["version"] == "1.10.0"
    batch = client.run_batch([PrefabCall(prefab_id, v, "number", {}) for v in ("latest", "1.2.0", "9.9.9")])
    assert [item.version for item in batch.results] == ["1.10.0", "1.2.0", None]
    assert gateway.request("GET", f"/v1/prefabs/{prefab_id}/latest/spec").json()["version"] == "1.10.0"


def test_a_stream_tells_the_version_in_a_header(gateway: Gateway, prefab_id: str, publish: Callable[[str], None]):
    publish("2.0.0")
    mark(gateway, prefab_id, "2.0.0", deprecated="use another")
    call = {"prefab_id": prefab_id, "version": "latest", "function_name": "counts", "inputs": {"parameters": {}}}
    answer = gateway.request("POST", "/v1/run", json={"calls": [call], "stream": True})
    assert answer.headers["x-prefab-version"] == "2.0.0"
    assert answer.headers["x-prefab-warning"] == "deprecated"


def test_a_deprecated_version_runs_with_a_warning(gateway: Gateway, prefab_id: str, publish: Callable[[str], None]):
    publish("1.0.0")
    client = gateway.client()
    assert client.run(prefab_id, "1.0.0", "number", {}).warning is None
    assert mark(gateway, prefab_id, "1.0.0", deprecated="用 2.0.0")["deprecated"] == "用 2.0.0"
    for version in ("1.0.0", "latest"):
        assert client.run(prefab_id, version, "number", {}).warning == f"{prefab_id}@1.0.0 is deprecated: 用 2.0.0"
    assert mark(gateway, prefab_id, "1.0.0", deprecated=None)["deprecated"] is None
    assert client.run(prefab_id, "1.0.0", "number", {}).warning is None


def test_marks_stay_when_a_version_gets_other_settings(
    gateway: Gateway, prefab_id: str, publish: Callable[[str], None], tmp_path: Path
):
    publish("1.0.0")
    mark(gateway, prefab_id, "1.0.0", deprecated="old")
    gateway.publish(tmp_path / "1.0.0", data={"settings": '{"MODE": "b"}'})
    assert gateway.client().run(prefab_id, "1.0.0", "number", {}).warning.endswith("old")


def test_a_yanked_version_is_passed_over_by_latest_only(
    gateway: Gateway, prefab_id: str, publish: Callable[[str], None]
):
    publish("1.0.0")
    publish("2.0.0")
    client = gateway.client()
    assert client.run(prefab_id, "latest", "number", {}).version == "2.0.0"
    mark(gateway, prefab_id, "2.0.0", yanked="loses data")
    assert client.run(prefab_id, "latest", "number", {}).version == "1.0.0"
    named = client.run(prefab_id, "2.0.0", "number", {})
    assert (named.get_result(), named.warning) == (200, f"{prefab_id}@2.0.0 was withdrawn by its publisher: loses data")
    public = gateway.request("GET", f"/v1/public/prefabs/{prefab_id}/functions")
    assert public.status_code == 200
    mark(gateway, prefab_id, "1.0.0", yanked="too")
    with pytest.raises(PrefabNotFoundError, match="withdrawn"):
        client.run(prefab_id, "latest", "number", {})
    mark(gateway, prefab_id, "2.0.0", yanked=None)
    assert client.run(prefab_id, "latest", "number", {}).version == "2.0.0"


@pytest.mark.parametrize("body", [{"deprecated": ""}, {"yanked": "x" * 501}, {"yanked": 1}])
def test_what_is_no_mark(gateway: Gateway, prefab_id: str, publish: Callable[[str], None], body: dict[str, object]):
    publish("1.0.0")
    assert gateway.request("PATCH", f"/v1/prefabs/{prefab_id}/1.0.0", json=body).status_code == 422
    assert gateway.request("PATCH", f"/v1/prefabs/{prefab_id}/latest", json={"yanked": "x"}).status_code == 422
    assert gateway.request("DELETE", f"/v1/prefabs/{prefab_id}/latest").status_code == 422


def test_only_the_owner_marks(gateway: Gateway, prefab_id: str, publish: Callable[[str], None]):
    publish("1.0.0")
    other = gateway.key(f"user-{uuid4().hex[:8]}", "publish")
    answer = gateway.request("PATCH", f"/v1/prefabs/{prefab_id}/1.0.0", json={"yanked": "x"}, key=other)
    assert answer.status_code == 403


def test_a_version_with_running_calls_is_not_removed(gateway: Gateway, prefab_id: str, publish: Callable[[str], None]):
    publish("1.0.0")
    client = gateway.client()
    results: list[object] = []
    thread = threading.Thread(
        target=lambda: results.append(client.run(prefab_id, "1.0.0", "sleeps", {"seconds": 3.0}).get_result())
    )
    thread.start()
    listed = {"prefab_id": prefab_id, "status": "running", "user": "ann"}
    until(lambda: gateway.request("GET", "/v1/jobs", params=listed).json()["jobs"])
    refused = gateway.request("DELETE", f"/v1/prefabs/{prefab_id}/1.0.0")
    assert (refused.status_code, refused.json()["detail"]["error_code"]) == (409, "VERSION_IN_USE")
    assert refused.json()["detail"]["running"] == 1
    thread.join(20)
    assert results == ["done"]
    assert gateway.request("DELETE", f"/v1/prefabs/{prefab_id}/1.0.0").status_code == 204
    with pytest.raises(PrefabNotFoundError):
        client.run(prefab_id, "1.0.0", "number", {})


def test_search_finds_by_every_word(gateway: Gateway, tmp_path: Path):
    word = f"w{uuid4().hex[:8]}"
    manifest = {"description": f"Counts the {word.upper()} of texts", "tags": ["文本"], "name": "Counter"}
    for version in ("1.0.0", "1.1.0"):
        folder = tmp_path / version
        gateway.publish(
            write_package(folder, "def count():\n    return 1\n", prefab_id=f"a-{word}", version=version,
                          manifest=manifest)
        )  # fmt: skip
    gateway.publish(
        write_package(tmp_path / "b", "def other():\n    return 1\n", prefab_id=f"b-{word}", manifest={"tags": ["x"]})
    )

    def found(text: str) -> list[str]:
        answer = gateway.request("GET", "/v1/prefabs", params={"q": text})
        return [f"{prefab['id']}@{prefab['version']}" for prefab in answer.json()["prefabs"]]

    assert found(word) == [f"a-{word}@1.1.0", f"b-{word}@1.0.0"]
    assert found(f"{word} 文本 count") == [f"a-{word}@1.1.0"]
    assert found(f"{word} nowhere") == []


def test_changes_are_written_down(gateway: Gateway, prefab_id: str, publish: Callable[[str], None]):
    publish("1.0.0")
    log = gateway.request("GET", "/v1/audit", params={"action": "prefab"}).json()["entries"]
    assert (log[0]["action"], log[0]["target"]) == ("prefab.publish", f"{prefab_id}@1.0.0")
