"""Functions that give, yield and raise whatever a function may: the gateway and the SDK's fake make the same of it."""

import asyncio
import datetime
import enum
import sys
import time
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path


@dataclass
class _Point:
    x: int
    at: datetime.date


class _Kind(enum.Enum):
    CONTENT = "content"


class _OddError(Exception):
    def __str__(self):
        raise RuntimeError("no text")


def odd():
    return {
        "moment": datetime.datetime(2025, 11, 7, 10, 15, tzinfo=datetime.UTC),
        "day": datetime.date(2025, 11, 7),
        "set": {1},
        "nan": float("nan"),
        "inf": [float("inf"), 1.5],
        ("a", 1): "tuple key",
        2: "number key",
        None: "no key",
        "path": Path("a/b"),
        "bytes": b"x\xff",
        "point": _Point(1, datetime.date(2025, 1, 2)),
        "surrogate": "a\ud800",
    }


def pair():
    return (1, 2)


def iterator():
    return iter("ab")


def no_json():
    return {"object": object()}


def decimal():
    return Decimal("1.5")


def circular():
    value = []
    value.append(value)
    return value


def text():
    yield "a"
    yield {"type": "content", "data": "b"}


def yields_day():
    yield {"type": "progress", "data": datetime.date(2025, 11, 7)}
    yield datetime.date(2025, 11, 7)


def yields_no_json():
    yield "a"
    yield {"type": "content", "data": object()}


def yields_extra():
    yield {"type": "progress", "data": 1, "of": 3}
    yield {"type": "thinking", "data": "hm"}
    yield {"type": _Kind.CONTENT, "data": "c"}
    yield {"type": "content"}
    yield {"n": 1}


def own_start():
    yield {"type": "start", "data": {"mine": 1}}
    yield "a"


def late_start():
    time.sleep(0.3)
    yield {"type": "start", "data": {"mine": 1}}
    yield "a"


def returns():
    yield "a"
    return {"r": 1}


def done_then_return():
    yield "a"
    yield {"type": "done", "data": {"d": 1}}
    return {"r": 1}


def done_text():
    yield "a"
    yield {"type": "done", "data": "d"}
    yield "late"


def same_object():
    event = {"type": "content", "data": {"n": 0}}
    for n in range(3):
        event["data"]["n"] = n
        yield event


def error_data():
    yield "a"
    yield {"type": "error", "data": "no paper", "error_code": "OUT_OF_PAPER"}


def error_message():
    yield {"type": "error", "message": "no ink"}


def error_object():
    yield {"type": "error", "data": {"n": 1}}


def error_nothing():
    yield {"type": "error"}


def fails():
    raise ValueError("no luck")


def fails_silently():
    raise ValueError


def fails_oddly():
    raise _OddError


def fails_midway():
    yield "a"
    raise KeyError("k")


def exits():
    sys.exit(3)


async def waits():
    await asyncio.sleep(0)
    return {"waited": True}


async def tells(n: int):
    for number in range(n):
        await asyncio.sleep(0)
        yield {"type": "content", "data": str(number)}


async def fails_async():
    yield "a"
    raise ValueError("later")


def logs():
    print("printed")
    yield {"type": "log", "data": "logged"}
    yield "a"


def adds(a: int, b: int = 2):
    return a + b


def takes_files(files: list):
    return files


def opens(files=None):
    """In the fake it is given URLs, in the gateway it finds the files themselves."""
    return "opened"


def sleeps(seconds: float):
    time.sleep(seconds)
    return "slept"


def counts(n: int, delay: float):
    for number in range(n):
        yield str(number)
        time.sleep(delay)
