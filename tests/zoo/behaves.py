"""Functions that behave, one for each shape that a function may have."""

import asyncio
import os
import sys
import time
from pathlib import Path

INPUTS = Path("data/inputs")
ABSOLUTE = Path("data/inputs").resolve()
COUNTER = 0


def echo(text: str):
    return {"success": True, "text": text}


def add(a: int, b: int = 2):
    return a + b


def nothing():
    return None


def whoami():
    return {"pid": os.getpid(), "uid": os.getuid(), "cwd": os.getcwd(), "home": os.environ["HOME"]}


def count():
    """How often this process was asked."""
    global COUNTER
    COUNTER += 1
    return COUNTER


def environment():
    return dict(os.environ)


async def waits(seconds: float):
    await asyncio.sleep(seconds)
    return {"waited": seconds}


def sleeps(seconds: float):
    time.sleep(seconds)
    return {"slept": seconds}


def tokens(n: int, delay: float = 0.0):
    for i in range(n):
        time.sleep(delay)
        yield {"type": "content", "data": f"t{i} "}


async def async_tokens(n: int):
    for i in range(n):
        await asyncio.sleep(0)
        yield {"type": "content", "data": f"a{i} "}


def finishes():
    yield {"type": "progress", "data": {"percent": 50}}
    yield {"type": "content", "data": "half"}
    yield {"type": "done", "data": {"success": True, "total": 1}}
    yield {"type": "content", "data": "too late"}


def returns_value():
    yield {"type": "content", "data": "x"}
    return {"value": 7}


def objects():
    yield {"type": "content", "data": {"n": 1}}
    yield {"type": "content", "data": {"n": 2}}


def says_error():
    yield {"type": "content", "data": "x"}
    yield {"type": "error", "data": "no more paper", "error_code": "OUT_OF_PAPER"}


def prints(lines: int = 1):
    for i in range(lines):
        print(f"line {i} " + "·" * 40)
    print("to stderr", file=sys.stderr)
    os.write(1, b"from below\n")
    return "printed"


def business_failure():
    return {"success": False, "error": "not today"}


def odd_values():
    return {"nan": float("nan"), "set": {1}, "path": Path("a/b"), "bytes": b"x", 1: "one", "pair": (1, 2)}


def large(size: int):
    return {"text": "x" * size}


def listing():
    """What lies in the workspace, and whether the absolute path made at import reaches it."""
    here = sorted(str(p) for p in INPUTS.rglob("*"))
    return {
        "here": here,
        "absolute": sorted(p.name for p in ABSOLUTE.rglob("*")),
        "tmp": os.listdir(os.environ["TMPDIR"]),
    }


def litter():
    Path("data/inputs/x.txt").write_text("left")
    Path("stray.txt").write_text("left")
    Path(os.environ["HOME"], "h").write_text("left")
    Path(os.environ["TMPDIR"], "t").write_text("left")
    return "littered"


def writes(names: list):
    for name in names:
        path = Path("data/outputs", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}")
    return {"success": True}


def reads():
    """Every input: key, name, text."""
    return sorted([p.parent.name, p.name, p.read_text()] for p in INPUTS.rglob("*") if p.is_file())
