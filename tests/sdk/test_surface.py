"""What users see: names, signatures, costs, secrecy."""

from __future__ import annotations

import ast
import asyncio
import inspect
import logging
import subprocess
import sys
import timeit
import typing
from importlib import metadata
from pathlib import Path

import pytest

import gateway_sdk
from gateway_sdk import AsyncGatewayClient, GatewayClient, GatewayError, PrefabCall, QuotaExceededError, StreamEventType
from gateway_sdk import models as guide_models
from gateway_sdk.testing import FakeGateway, Output

ROOT = Path(__file__).parents[2]


def test_all_is_sorted_and_true():
    assert sorted(gateway_sdk.__all__) == gateway_sdk.__all__
    assert all(getattr(gateway_sdk, name) is not None for name in gateway_sdk.__all__)
    assert gateway_sdk.__version__ == metadata.version("agent-builder-gateway-sdk")
    with pytest.raises(AttributeError):
        _ = gateway_sdk.no_such_name


def test_every_error_and_no_other_can_be_had_from_the_package_itself():
    errors = {name for name in gateway_sdk.__all__ if name.endswith("Error")}
    assert errors == set(gateway_sdk.exceptions.__all__)
    assert all(getattr(gateway_sdk, name) is getattr(gateway_sdk.exceptions, name) for name in errors)


def test_the_guide_s_imports():
    from gateway_sdk.exceptions import (  # noqa: F401
        AgentContextRequiredError,
        AuthenticationError,
        GatewayError,
        MissingSecretError,
        PrefabNotFoundError,
        QuotaExceededError,
        ValidationError,
    )

    assert guide_models.StreamEventType is StreamEventType


GUIDE = {
    "__init__": [("internal_token", None), ("base_url", None), ("timeout", 60)],
    "run": [("prefab_id",), ("version",), ("function_name",), ("parameters",), ("files", None), ("stream", False)],
    "run_batch": [("calls",)],
    "upload_file": [("file_path",), ("content_type", None)],
    "upload_temp_file": [("file_path",), ("content_type", None), ("ttl_hours", 24), ("session_id", None)],
    "download_file": [("s3_url",)],
    "list_files": [("prefix", None)],
    "list_temp_files": [("prefix", None), ("session_id", None)],
    "cleanup_temp_files": [("session_id", None)],
}


@pytest.mark.parametrize("kind", [GatewayClient, AsyncGatewayClient])
@pytest.mark.parametrize("method", GUIDE)
def test_the_guide_s_signatures(kind, method):
    parameters = list(inspect.signature(getattr(kind, method)).parameters.values())[1:]
    positional = [parameter for parameter in parameters if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]
    shown = [
        (parameter.name,) if parameter.default is parameter.empty else (parameter.name, parameter.default)
        for parameter in positional
    ]
    assert shown == GUIDE[method]


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def test_both_clients_have_the_same_methods_all_described():
    assert public(GatewayClient) == public(AsyncGatewayClient)
    for name in public(GatewayClient):
        assert inspect.getdoc(getattr(GatewayClient, name)), name


def test_the_blocking_client_is_what_the_tool_makes():
    check = [sys.executable, "scripts/unasync.py", "--check"]
    run = subprocess.run(check, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_importing_and_calling_load_no_heavy_libraries():
    program = """if True:
        import sys
        import gateway_sdk
        client = gateway_sdk.GatewayClient("t", "http://127.0.0.1:1", max_retries=0)
        try:
            client.run("a", "1.0.0", "f", {})
        except gateway_sdk.ConnectionFailedError:
            pass
        heavy = {"httpx", "http.client", "pydantic", "email", "asyncio", "ssl", "inspect", "fastapi"}
        heavy |= {"typing", "logging", "traceback", "hashlib", "datetime", "concurrent", "tempfile"}
        print(sorted(heavy & set(sys.modules)))
    """
    run = subprocess.run(
        [sys.executable, "-S", "-c", program], env={"PYTHONPATH": str(ROOT / "sdk/src")}, capture_output=True, text=True
    )
    assert run.stdout.strip() == "[]", run.stderr


def test_nothing_is_loaded_before_it_is_used():
    program = """if True:
        import sys
        import gateway_sdk
        own = lambda: sorted(name for name in sys.modules if name.startswith("gateway_sdk."))
        assert own() == [], own()
        assert set(gateway_sdk.__all__) <= set(dir(gateway_sdk))
        assert gateway_sdk.exceptions.GatewayError is gateway_sdk.GatewayError
        assert gateway_sdk.models.PrefabCall is gateway_sdk.PrefabCall
        assert not {"gateway_sdk._client", "socket", "asyncio"} & set(sys.modules), own()
        from gateway_sdk import *
        assert AsyncGatewayClient.__module__ == "gateway_sdk._async_client"
    """
    subprocess.run([sys.executable, "-S", "-c", program], env={"PYTHONPATH": str(ROOT / "sdk/src")}, check=True)


def test_type_checkers_see_every_name():
    tree = ast.parse(Path(gateway_sdk.__file__).read_text())
    seen = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen - {"annotations", "import_module"} == set(gateway_sdk.__all__) - {"__version__"}


@pytest.mark.parametrize("kind", [GatewayClient, AsyncGatewayClient])
@pytest.mark.parametrize("method", [name for name in GUIDE if name != "__init__"])
def test_signatures_can_be_evaluated(kind, method):
    """As those do who make a tool for a model of a method."""
    hints = typing.get_type_hints(getattr(kind, method))
    assert hints.keys() == {*(name for name, *_ in GUIDE[method]), "return"} | hints.keys() & {"progress"}


def test_a_client_costs_nothing_to_make():
    best = min(timeit.repeat(lambda: GatewayClient(internal_token="t"), number=1000, repeat=5)) / 1000
    assert best < 20e-6


def test_tokens_are_never_shown(caplog):
    fake = FakeGateway()
    fake.fail_next(gateway_sdk.OverloadedError("busy", details={"retry_after": 0}))
    caplog.set_level(logging.DEBUG)
    client = fake.client("very-secret")
    with pytest.raises(GatewayError) as caught:
        client.run("none", "1.0.0", "f", {})
    assert "very-secret" not in repr(client) + caplog.text + repr(caught.value) + str(caught.value)
    assert "POST http://fake-gateway.test/v1/internal/run" in caplog.text


def test_timeouts_that_are_none():
    for timeout in (0, -1, float("nan"), float("inf"), "soon", None):
        with pytest.raises(GatewayError, match="positive number of seconds"):
            GatewayClient("t", "http://127.0.0.1:1", timeout=timeout).run("a", "1.0.0", "f", {})
    with pytest.raises(GatewayError, match="positive number of seconds"):
        GatewayClient("t", "http://127.0.0.1:1").submit("a", "1.0.0", "f", {}, deadline="soon")


def test_a_batch_of_nothing():
    with pytest.raises(gateway_sdk.ValidationError):
        FakeGateway().client().run_batch([])


def test_a_batch_of_what_is_no_call():
    for client in (FakeGateway().client(), GatewayClient("t", "http://127.0.0.1:1")):
        for calls in ([{"prefab_id": "a"}], "abc", [None]):
            with pytest.raises(gateway_sdk.ValidationError, match="PrefabCall"):
                client.run_batch(calls)


# --- the fake ---


def test_the_fake_runs_functions_with_files():
    fake = FakeGateway(quota=1)

    @fake.prefab("doc", "1.0.0")
    def upper(suffix, files):
        data = fake.files[files["input"][0]]
        return Output({"success": True}, files={"output": {f"up.{suffix}": data.upper()}})

    result = fake.client().run("doc", "1.0.0", "upper", {"suffix": "txt"}, files={"input": [fake.put("a.txt", b"abc")]})
    url = result.get_files()["output"][0]
    assert fake.files[url] == b"ABC"
    assert fake.calls == [PrefabCall("doc", "1.0.0", "upper", {"suffix": "txt"}, fake.calls[0].files)]
    with pytest.raises(gateway_sdk.ValidationError, match="suffix"):
        fake.client().run("doc", "1.0.0", "upper", {})
    none = "s3://fake/agent-inputs/user/2025/11/07/1-none"
    with pytest.raises(gateway_sdk.RemoteFileNotFoundError):
        fake.client().run("doc", "1.0.0", "upper", {"suffix": "x"}, files={"input": [none]})
    with pytest.raises(QuotaExceededError) as caught:
        fake.client().run("doc", "1.0.0", "upper", {"suffix": "x"})
    assert (caught.value.used, caught.value.limit) == (1, 1)


def test_the_fake_folds_generators():
    fake = FakeGateway()

    @fake.prefab("g", "1.0.0")
    def text():
        yield {"type": "content", "data": "a"}
        yield {"type": "content", "data": "b"}

    @fake.prefab("g", "1.0.0")
    def mixed():
        yield {"type": "progress", "data": 1}

    client = fake.client()
    assert client.run("g", "1.0.0", "text", {}).get_result() == {"content": "ab"}
    assert client.run("g", "1.0.0", "mixed", {}).get_result()["events"][0] == {"type": "progress", "data": 1}
    assert [event.type for event in client.run("g", "1.0.0", "text", {}, stream=True)][-1] == "done"

    async def main():
        return [event.data async for event in fake.async_client().run("g", "1.0.0", "text", {}, stream=True)]

    assert asyncio.run(main())[1:] == ["a", "b", None]


def test_the_fake_runs_what_the_gateway_runs():
    fake = FakeGateway()

    @fake.prefab("g", "1.0.0")
    async def answer(n):
        await asyncio.sleep(0)
        return {"n": n}

    @fake.prefab("g", "1.0.0")
    async def tell(n):
        for number in range(n):
            await asyncio.sleep(0)
            yield {"type": "content", "data": str(number)}

    @fake.prefab("g", "1.0.0")
    def bare():
        yield "a"
        yield {"type": "log", "data": "unseen"}
        yield {"type": "thinking", "data": "b"}

    client = fake.client()
    assert client.run("g", "1.0.0", "answer", {"n": 1}).get("n") == 1
    assert client.run("g", "1.0.0", "tell", {"n": 3}).get_result() == {"content": "012"}
    assert client.run("g", "1.0.0", "bare", {}).get_result() == {"content": "ab"}

    async def main():
        client = fake.async_client()
        assert (await client.run("g", "1.0.0", "answer", {"n": 1})).get("n") == 1
        return [event.data async for event in client.run("g", "1.0.0", "tell", {"n": 2}, stream=True)]

    assert asyncio.run(main())[1:] == ["0", "1", None]


def test_the_fake_knows_versions():
    fake = FakeGateway()
    for version, deprecated in (("1.9.0", "use 1.10.0"), ("1.10.0", None)):
        fake.prefab("g", version, "number", deprecated=deprecated)(lambda version=version: version)
    client = fake.client()
    newest = client.run("g", "latest", "number", {})
    assert (newest.get_function_result(), newest.version, newest.warning) == ("1.10.0", "1.10.0", None)
    old = client.run("g", "1.9.0", "number", {})
    assert (old.version, old.warning) == ("1.9.0", "g@1.9.0 is deprecated: use 1.10.0")
    calls = [PrefabCall("g", version, "number", {}) for version in ("latest", "1.9.0", "2.0.0")]
    told = [(result.version, result.warning) for result in client.run_batch(calls).results]
    assert told == [("1.10.0", None), ("1.9.0", old.warning), (None, None)]
    assert [call.version for call in fake.calls] == ["1.10.0", "1.9.0", "1.10.0", "1.9.0"]
    with pytest.raises(gateway_sdk.PrefabNotFoundError):
        client.run("none", "latest", "number", {})


def test_injected_httpx_transports():
    import httpx

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/list"):
            return httpx.Response(200, json={"files": []})
        raise httpx.ConnectError("no route")

    client = GatewayClient("t", "https://gateway.example", max_retries=1, transport=httpx.MockTransport(answer))
    assert client.list_files() == []
    with pytest.raises(gateway_sdk.ConnectionFailedError, match="no route"):
        client.get_job("j")
    client.close()


def test_the_fastapi_dependency():
    import httpx
    from fastapi import Depends, FastAPI

    from gateway_sdk.fastapi import gateway_client

    app = FastAPI()

    def endpoint(client=Depends(gateway_client)):
        return {"token": client._token}

    app.get("/")(endpoint)

    async def main():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://a") as web:
            with_token = await web.get("/", headers={"X-Internal-Token": "of-the-caller"})
            return with_token.json(), (await web.get("/")).status_code

    assert asyncio.run(main()) == ({"token": "of-the-caller"}, 422)
