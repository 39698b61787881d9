"""The SDK's fake has the rules of the runtime, which it cannot import: the same functions, to both."""

import importlib.util
import inspect
import json
from collections.abc import Callable
from typing import Any

import pytest
from packages import ZOO

from gateway_runtime import functions
from gateway_sdk._fake.call import Call
from gateway_sdk.testing import FakeGateway


def load() -> dict[str, Callable[..., Any]]:
    spec = importlib.util.spec_from_file_location("speaks", ZOO / "speaks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {name: one for name, one in vars(module).items() if inspect.isfunction(one) and not name.startswith("_")}


FUNCTIONS = load()
NAMES = [name for name, function in FUNCTIONS.items() if not inspect.signature(function).parameters]


def by_the_runtime(function: Callable[..., Any], *, stream: bool, fold: bool) -> Any:
    said: list[Any] = []

    def emit(kind: str, text: bytes) -> None:
        said.append(json.loads(text))

    try:
        streamed, result = functions.call(function, {}, stream=stream, emit=emit, fold=fold)
        return said, streamed, json.loads(result)
    except functions.EventError as error:
        return said, {"error_code": error.code, "type": "EventError", "message": str(error)}
    except BaseException as error:
        told = functions.describe(error)
        return said, {"error_code": "PREFAB_ERROR", "type": told["type"], "message": told["message"]}


def by_the_fake(function: Callable[..., Any], *, stream: bool, fold: bool) -> Any:
    said: list[Any] = []
    emit = said.append if stream else None
    outcome = Call(function, emit=emit, fold=fold, log=lambda _: None, store=lambda *_: "").run()
    if outcome.error is not None:
        return said, outcome.error
    return said, outcome.is_streamed, outcome.value


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("stream", "fold"), [(False, False), (True, False), (True, True)])
def test_the_fake_makes_of_a_function_what_the_runtime_makes_of_it(name: str, stream: bool, fold: bool) -> None:
    told = by_the_fake(FUNCTIONS[name], stream=stream, fold=fold)
    assert told == by_the_runtime(FUNCTIONS[name], stream=stream, fold=fold)


def test_files_of_a_call_come_to_a_function_that_takes_anything():
    fake = FakeGateway()

    @fake.prefab("takes", "1.0.0")
    def anything(**given):
        return sorted(given)

    client = fake.client()
    assert client.run("takes", "1.0.0", "anything", {"a": 1}).get_result() == ["a"]
    files = {"in": [fake.put("a.txt", b"a")]}
    assert client.run("takes", "1.0.0", "anything", {"a": 1}, files).get_result() == ["a", "files"]
