"""Events, folding and encoding: the pure part of running a function."""

import dataclasses
import datetime
import decimal
import json
import math
import subprocess
import sys
from enum import Enum
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_runtime import functions

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def run(function, *, stream=False, **parameters):
    events = []
    streamed, result = functions.call(
        function, parameters, stream=stream, emit=lambda kind, text: events.append((kind, json.loads(text)))
    )
    return streamed, json.loads(result), events


@given(JSON)
def test_what_json_can_hold_comes_back_as_it_was(value):
    assert json.loads(functions.encode(value)) == value


@given(st.floats())
def test_numbers_that_json_does_not_know_become_null(value):
    back = json.loads(functions.encode({"n": [value]}))["n"][0]
    assert back is None if math.isnan(value) or math.isinf(value) else back == value


@given(st.text(st.characters()))
def test_any_text_becomes_valid_utf8_on_one_line(value):
    text = functions.encode(value)
    assert "\n" not in text.decode()


def test_common_values_become_plain():
    @dataclasses.dataclass
    class Point:
        x: int

    value = {
        "day": datetime.date(2026, 1, 2),
        "at": datetime.datetime(2026, 1, 2, 3, tzinfo=datetime.UTC),
        "path": Path("a/b"),
        "point": Point(1),
        "set": {1},
        (1, 2): "tuple key",
    }
    assert json.loads(functions.encode(value)) == {
        "day": "2026-01-02",
        "at": "2026-01-02T03:00:00+00:00",
        "path": "a/b",
        "point": {"x": 1},
        "set": [1],
        "(1, 2)": "tuple key",
    }


@pytest.mark.parametrize("key", [None, True, 1, 1.5])
def test_a_key_does_not_depend_on_the_values_beside_it(key):
    assert json.loads(functions.encode({key: math.nan})).keys() == json.loads(functions.encode({key: 1})).keys()


def test_what_json_cannot_hold_is_named():
    with pytest.raises(TypeError, match=r"decimal\.Decimal"):
        functions.encode({"n": decimal.Decimal(1)})


def test_a_lone_surrogate_does_not_break_the_result():
    assert json.loads(functions.encode("a\ud800b")) == "a?b"


class Kind(str, Enum):
    CONTENT = "content"


@pytest.mark.parametrize(
    ("yielded", "event"),
    [
        ({"type": "content", "data": "x"}, {"type": "content", "data": "x"}),
        ({"type": Kind.CONTENT, "data": "x"}, {"type": "content", "data": "x"}),
        ("bare", {"type": "content", "data": "bare"}),
        ({"answer": 42}, {"type": "content", "data": {"answer": 42}}),
        ({"type": "thinking", "data": "hm"}, {"type": "content", "data": "hm"}),
        ({"type": ["string", "null"]}, {"type": "content", "data": {"type": ["string", "null"]}}),
        ({"type": {}, "data": 1}, {"type": "content", "data": 1}),
        ({"type": "progress"}, {"type": "progress", "data": None}),
        ({"type": "log", "data": "secretly"}, None),
    ],
)
def test_what_a_generator_yields_becomes_an_event(yielded, event):
    assert functions.as_event(yielded) == event


def test_a_generator_without_done_folds_into_its_text():
    def tell():
        yield {"type": "content", "data": "a"}
        yield {"type": "content", "data": "b"}

    assert run(tell) == (False, {"content": "ab"}, [])
    assert run(tell, stream=True)[0:2] == (True, None)


def test_the_return_value_goes_before_done_when_folding_and_after_it_when_streaming():
    def tell():
        yield {"type": "done", "data": {"from": "done"}}
        return {"from": "return"}

    assert run(tell)[1] == {"from": "return"}
    assert run(tell, stream=True)[1] == {"from": "done"}


def test_a_generator_may_fill_the_same_event_again():
    def tell():
        event = {"type": "content", "data": ""}
        for text in ("a", "b", "c"):
            event["data"] = text
            yield event

    def count():
        found = []
        for number in range(2):
            found.append(number)
            yield {"type": "progress", "data": {"found": found}}

    assert run(tell)[1] == {"content": "abc"}
    assert [event["data"]["found"] for event in run(count)[1]["events"]] == [[0], [0, 1]]


@pytest.mark.parametrize("content", [datetime.date(2025, 11, 7), Path("2025-11-07"), b"2025-11-07"])
def test_contents_that_are_no_texts_are_not_joined(content):
    def tell():
        yield content
        yield content

    assert run(tell)[1] == {"events": [{"type": "content", "data": "2025-11-07"}] * 2}


def test_a_done_without_an_object_leaves_the_text():
    def tell():
        yield {"type": "content", "data": "a"}
        yield {"type": "done", "data": None}

    assert run(tell)[1] == {"content": "a"}


def test_an_async_generator_and_a_coroutine_run_like_the_others():
    async def tell(n):
        for i in range(n):
            yield {"type": "content", "data": str(i)}

    async def answer():
        return 5

    assert run(tell, n=3)[1] == {"content": "012"}
    assert run(answer)[1] == 5


def test_code_after_done_runs_and_its_events_are_dropped(capsys):
    ran = []

    def tell():
        yield {"type": "done", "data": {"ok": 1}}
        yield {"type": "content", "data": "late"}
        ran.append(True)

    _, result, events = run(tell, stream=True)
    assert (result, events, ran) == ({"ok": 1}, [], [True])
    assert "late" in capsys.readouterr().err


ERROR = {"type": "error", "data": "no paper"}


def ends_in_finally():
    try:
        yield ERROR
    finally:
        yield {"type": "done", "data": None}


def fails_in_finally():
    try:
        yield ERROR
    finally:
        raise KeyError("cleaning up")


async def ends_in_finally_async():
    try:
        yield ERROR
    finally:
        yield {"type": "done", "data": None}


@pytest.mark.parametrize(
    "function",
    [lambda: iter([ERROR]), lambda: map(dict, [ERROR]), ends_in_finally, fails_in_finally, ends_in_finally_async],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_happens_after_an_error_event_does_not_take_its_place(function, stream):
    with pytest.raises(functions.EventError, match="no paper"):
        run(function, stream=stream)


@pytest.mark.parametrize(
    ("event", "told"),
    [
        ({"type": "error", "message": "no ink"}, "no ink"),
        ({"type": "error", "data": None}, "did not say which"),
        ({"type": "error", "data": {"code": 1}}, '{"code":1}'),
    ],
)
def test_an_error_event_is_told_in_words(event, told):
    with pytest.raises(functions.EventError, match=told):
        run(lambda: iter([event]))


def test_a_traceback_tells_what_an_exception_came_from():
    def fail():
        try:
            {}["key"]
        except KeyError as error:
            raise RuntimeError("no luck") from error

    with pytest.raises(RuntimeError) as caught:
        run(fail)
    told = functions.describe(caught.value)
    assert (told["type"], told["message"]) == ("RuntimeError", "no luck")
    assert "KeyError: 'key'" in told["traceback"]
    assert told["traceback"].endswith("RuntimeError: no luck\n")
    assert told["traceback"].count(", in fail\n") == 2
    assert functions.__file__ not in told["traceback"]


def test_a_file_is_no_generator(tmp_path):
    path = tmp_path / "x"
    path.write_text("a\nb")
    with open(path) as file, pytest.raises(TypeError, match="JSON cannot hold"):
        run(lambda: file)


@pytest.mark.parametrize("name", ["queue", "logging", "ssl"])
def test_asyncio_is_loaded_whatever_the_package_calls_its_own_modules(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.py").write_text("raise RuntimeError('of the package')\n")
    (tmp_path / "main.py").write_text("async def wait():\n    return 1\n")
    script = (
        "import sys\nfrom gateway_runtime import functions\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "module = functions.load('main.py')\n"
        "print(functions.call(functions.find(module, 'wait'), {}, stream=False, emit=print)[1].decode())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == "1\n", done.stderr


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="a thread has no event loop before it sets one")
def test_a_coroutine_leaves_the_thread_its_event_loop() -> None:
    script = (
        "import asyncio\nfrom gateway_runtime import functions\n"
        "async def first(): return 1\n"
        "def second(): return asyncio.get_event_loop().run_until_complete(asyncio.sleep(0, 2))\n"
        "for function in (second, first, second):\n"
        "    print(functions.call(function, {}, stream=False, emit=print)[1].decode())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == "2\n1\n2\n", done.stderr


def test_a_file_that_cannot_be_read_mentions_nothing(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("async def wait(): ...\n")
    assert functions.mentions_async(str(tmp_path / "main.py"))
    assert not functions.mentions_async(str(tmp_path / "missing.py"))
