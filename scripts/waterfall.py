"""Where the microseconds of one call go: measures its stages, and draws the picture of docs/how-it-works.md.

    .venv/bin/python scripts/waterfall.py [--calls 4000] [--sandbox auto] [--folder docs/pictures]

Starts a gateway in a process of its own that notes the moment at which each stage ends, sends calls over one
connection, one after the other, each with an Idempotency-Key, and draws the medians. Run it on a machine that does
nothing else.
"""

import argparse
import http.client
import inspect
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from gateways import Gateway, running_gateway  # noqa: E402
from packages import write_package  # noqa: E402

NOTES = "WATERFALL_NOTES"
"""In the environment of the gateway: the file that it writes its moments to when it ends."""
WARM = 500
"""Calls before those that count."""
PLENTY = 10**9
"""A quota that is counted against, and never used up."""

PACKAGE = """
import time
from gateway_runtime import worker

seen = {"ordered": 0, "told": 0}
run, is_unread = worker._Worker.run, worker._is_unread

def _run(self, number, order):
    seen["ordered"] = time.monotonic_ns()
    return run(self, number, order)

def _is_unread():
    found = is_unread()
    seen["told"] = time.monotonic_ns()
    return found

worker._Worker.run, worker._is_unread = _run, _is_unread

def echo(text: str):
    entered = time.monotonic_ns()
    return {"text": text, "ordered": seen["ordered"], "entered": entered, "before": seen["told"],
            "left": time.monotonic_ns()}
"""
"""An echo that tells when its worker got the order, when the function began and ended, and when the worker had told the
end of the call before."""

IN_GATEWAY = (
    *("arrived", "parsed", "known", "keyed", "valid", "admitted", "begun", "ordered"),
    *("heard", "recording", "recorded", "answered"),
)
"""The moments of one call in the gateway, in their order."""
GATEWAY, WORKER, WAY = "gateway", "worker", "way"


@dataclass(frozen=True)
class Piece:
    """What lies between two moments, and who is at it."""

    begin: str
    end: str
    who: str


@dataclass(frozen=True)
class Stage:
    """One row of the picture."""

    english: str
    chinese: str
    pieces: tuple[Piece, ...]


STAGES = (
    Stage("HTTP head parsed", "解析 HTTP 请求头", (Piece("sent", "arrived", WAY), Piece("arrived", "parsed", GATEWAY))),
    Stage("who calls", "谁在调用", (Piece("parsed", "known", GATEWAY),)),
    Stage("JSON and schema", "JSON 与模式", (Piece("keyed", "valid", GATEWAY),)),
    Stage(
        "idempotency and quota",
        "幂等键与配额",
        (Piece("known", "keyed", GATEWAY), Piece("valid", "admitted", GATEWAY)),
    ),
    Stage("record begun", "记录开始", (Piece("admitted", "begun", GATEWAY),)),
    Stage(
        "order to the worker",
        "命令送到工作进程",
        (
            Piece("begun", "ordered", GATEWAY),
            Piece("ordered", "worker ordered", WAY),
            Piece("worker ordered", "entered", WORKER),
        ),
    ),
    Stage("the function", "函数", (Piece("entered", "left", WORKER),)),
    Stage(
        "result back",
        "结果返回",
        (Piece("left", "told", WORKER), Piece("told", "heard", WAY), Piece("heard", "recording", GATEWAY)),
    ),
    Stage("record ended", "记录结束", (Piece("recording", "recorded", GATEWAY),)),
    Stage("answer written", "写出回答", (Piece("recorded", "answered", GATEWAY), Piece("answered", "received", WAY))),
)


# In the gateway's process


def serve_noting() -> None:
    """The gateway's command, noting moments; they are written to a file when it ends."""
    notes = array("q")  # of plain numbers, which the collector of garbage does not look through
    _wrap(notes)
    from gateway_server.cli import main as gateway

    try:
        gateway()
    finally:
        Path(os.environ[NOTES]).write_text(json.dumps(list(_whole(notes))))


def _wrap(notes: "array[int]") -> None:
    from gateway_server.api import calls
    from gateway_server.api.auth import Authenticator
    from gateway_server.api.connection import Connection
    from gateway_server.api.direct import Direct
    from gateway_server.calls.inputs import Validator
    from gateway_server.calls.ledger import Ledger
    from gateway_server.calls.pipeline import Pipeline
    from gateway_server.engine.local import orders, worker

    def note(moment: str) -> Callable[[], None]:
        number = IN_GATEWAY.index(moment)
        return lambda: notes.extend((number, time.monotonic_ns()))

    def wrap(
        owner: Any, name: str, before: Callable[[], None] = _nothing, after: Callable[[], None] = _nothing
    ) -> None:
        inner = getattr(owner, name)

        def noted(*arguments: Any, **options: Any) -> Any:
            before()
            found = inner(*arguments, **options)
            after()
            return found

        async def noted_waiting(*arguments: Any) -> Any:
            before()
            found = await inner(*arguments)
            after()
            return found

        setattr(owner, name, noted_waiting if inspect.iscoroutinefunction(inner) else noted)

    wrap(Connection, "data_received", before=note("arrived"))
    wrap(calls.RunRoutes, "direct", before=note("parsed"))
    wrap(Authenticator, "recall", after=note("known"))
    wrap(calls, "request_key", after=note("keyed"))
    wrap(Validator, "check", after=note("valid"))
    wrap(Ledger, "begin", before=note("admitted"), after=note("begun"))
    wrap(orders, "frame", after=note("ordered"))
    wrap(worker.Worker, "data_received", before=note("heard"))
    wrap(Pipeline, "_record", before=note("recording"), after=note("recorded"))
    wrap(Direct, "_write_head", before=note("answered"))


def _nothing() -> None: ...


def _whole(notes: Sequence[int]) -> Iterator[list[int]]:
    """The moments of each call of which every stage was noted, and nothing else between them."""
    numbers, moments, wanted = notes[::2], notes[1::2], list(range(len(IN_GATEWAY)))
    for at in range(len(numbers)):
        if list(numbers[at : at + len(wanted)]) == wanted:
            yield list(moments[at : at + len(wanted)])


# In the script's own process


class Caller:
    """One connection, and one call after the other on it."""

    def __init__(self, gateway: Gateway, key: str) -> None:
        self._connection = http.client.HTTPConnection(gateway.url.removeprefix("http://"), timeout=60)
        self._connection.connect()
        assert self._connection.sock is not None
        self._socket = self._connection.sock
        self._key = key
        self._number = itertools.count()
        call = {"prefab_id": "echo", "version": "1.0.0", "function_name": "echo"}
        inputs = {"parameters": {"text": "hello world, this is a small payload"}}
        self._body = json.dumps({"calls": [{**call, "inputs": inputs}], "stream": False}).encode()

    def call(self) -> tuple[int, int, dict[str, int]]:
        """When it was sent, when its answer was there, and what the function told."""
        request = (
            f"POST /v1/run HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {self._key}\r\n"
            f"Idempotency-Key: waterfall-{next(self._number)}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(self._body)}\r\n\r\n"
        ).encode() + self._body
        sent = time.monotonic_ns()
        self._socket.sendall(request)
        answer = self._socket.recv(1 << 16)
        received = time.monotonic_ns()
        told = json.loads(answer.partition(b"\r\n\r\n")[2])
        result = told["results"][0]
        assert result["status"] == "SUCCESS", result
        return sent, received, _find(result["output"])

    def close(self) -> None:
        """Hangs up."""
        self._connection.close()


def _find(output: Any) -> Any:
    """What the function returned, however it is wrapped."""
    while "ordered" not in output:
        output = next(value for value in output.values() if isinstance(value, dict))
    return output


def measure(calls: int, sandbox: str) -> tuple[dict[str, float], float, int]:
    """The median moment of each stage, in microseconds since the call was sent; the median round trip of a gateway that
    notes nothing; and how many calls were noted."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        plain = statistics.median(received - sent for sent, received, _ in _run(folder / "plain", calls, sandbox, None))
        told = _run(folder / "noting", calls, sandbox, folder / "notes")
        noted = json.loads((folder / "notes").read_text())
    found = list(_joined(told, noted))
    offsets = {
        moment: statistics.median(call[moment] - call["sent"] for call in found) / 1000 for moment in sorted(found[0])
    }
    return offsets, plain / 1000, len(found)


def _run(data: Path, calls: int, sandbox: str, notes: Path | None) -> list[tuple[int, int, dict[str, int]]]:
    command = [str(Path(sys.executable).with_name("gateway"))] if notes is None else [sys.executable, __file__]
    environment = {} if notes is None else {NOTES: str(notes)}
    with running_gateway(data, "--sandbox", sandbox, env=environment, command=command) as gateway:
        gateway.publish(write_package(data.parent / f"{data.name}-echo", PACKAGE, prefab_id="echo"))
        key = gateway.key("ann", "call")
        assert gateway.request("PUT", "/v1/quotas/ann", json={"limit": PLENTY}).is_success
        caller = Caller(gateway, key)
        for _ in range(WARM):
            caller.call()
        told = [caller.call() for _ in range(calls)]
        caller.close()
    return told


def _joined(
    told: Sequence[tuple[int, int, dict[str, int]]], noted: Sequence[Sequence[int]]
) -> Iterator[dict[str, int]]:
    """The moments of each call, from all three processes: their clock is the same."""
    waiting = iter(noted)
    moments = next(waiting, None)
    for (sent, received, function), (_, _, following) in itertools.pairwise(told):
        while moments is not None and moments[0] < sent:
            moments = next(waiting, None)
        if moments is None:
            return
        if moments[0] > received:  # this one was not noted whole
            continue
        yield {
            "sent": sent,
            "received": received,
            **dict(zip(IN_GATEWAY, moments, strict=True)),
            "worker ordered": function["ordered"],
            "entered": function["entered"],
            "left": function["left"],
            "told": following["before"],
        }


# The picture

WIDTH, LEFT, RIGHT, TOP, ROW = 820, 200, 70, 64, 30
LOOKS = {GATEWAY: "g", WORKER: "w", WAY: "z"}
WORDS = {
    "en": {
        "title": "Where the microseconds of one call go",
        GATEWAY: "the gateway works",
        WORKER: "the worker works",
        WAY: "on its way: written, carried, and another process woken",
        "whole": "{:.0f} µs from the caller's socket and back; the gateway works for {:.0f}, the worker for {:.0f}",
    },
    "zh": {
        "title": "一次调用的微秒花在哪里",
        GATEWAY: "网关在工作",
        WORKER: "工作进程在工作",
        WAY: "在路上：写出、传送、唤醒另一个进程",
        "whole": "从调用者的套接字出发并返回共 {:.0f} µs；其中网关工作 {:.0f}，工作进程工作 {:.0f}",
    },
}


def draw(offsets: dict[str, float], language: str) -> str:
    """The picture as SVG."""
    words = WORDS[language]
    end = offsets["received"]
    step = next(step for step in (10, 20, 50, 100, 200, 500, 1000) if end / step <= 10)
    scale = (WIDTH - LEFT - RIGHT) / end
    height = TOP + ROW * len(STAGES) + 60
    bottom = TOP + ROW * len(STAGES)
    whole = words["whole"].format(end, _sum(offsets, GATEWAY), _sum(offsets, WORKER))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{words["title"]}">',
        f"<title>{words['title']}</title>",
        "<style>",
        'text{font:14px system-ui,"Noto Sans SC","Noto Sans CJK SC",sans-serif;fill:#1f2933}',
        ".t{font-weight:600}.s{font-size:12px;fill:#52606d}.l{font-size:12px;fill:#334e68}",
        ".g{fill:#2f6fb2}.w{fill:#2d8a54}.z{fill:#d9e2ec}.r{stroke:#d9e2ec}",
        "</style>",
        f'<rect width="{WIDTH}" height="{height}" rx="12" fill="#f7f9fc"/>',
        f'<text class="t" x="20" y="30">{whole}</text>',
        f'<text class="s" x="{LEFT - 24}" y="{TOP - 12}" text-anchor="end">µs</text>',
    ]
    for at in range(0, int(end) + 1, step):
        x = LEFT + at * scale
        parts.append(f'<path class="r" d="M{x:.1f} {TOP - 6}V{bottom}"/>')
        parts.append(f'<text class="s" x="{x:.1f}" y="{TOP - 12}" text-anchor="middle">{at}</text>')
    for number, stage in enumerate(STAGES):
        y = TOP + ROW * number
        label = stage.english if language == "en" else stage.chinese
        parts.append(f'<text x="20" y="{y + 19}">{label}</text>')
        for piece in stage.pieces:
            x, width = LEFT + offsets[piece.begin] * scale, _length(offsets, piece) * scale
            parts.append(
                f'<rect class="{LOOKS[piece.who]}" x="{x:.1f}" y="{y + 6}" width="{max(width, 1.0):.1f}" height="18"/>'
            )
        took = sum(_length(offsets, piece) for piece in stage.pieces)
        x = LEFT + offsets[stage.pieces[-1].end] * scale + 6
        parts.append(f'<text class="l" x="{x:.1f}" y="{y + 19}">{took:.{int(took < 1)}f} µs</text>')
    x = 20.0
    for who in (GATEWAY, WORKER, WAY):
        parts.append(f'<rect class="{LOOKS[who]}" x="{x:.0f}" y="{bottom + 24}" width="14" height="14"/>')
        parts.append(f'<text class="s" x="{x + 20:.0f}" y="{bottom + 36}">{words[who]}</text>')
        x += 180
    return "\n".join([*parts, "</svg>"]) + "\n"


def _length(offsets: dict[str, float], piece: Piece) -> float:
    return offsets[piece.end] - offsets[piece.begin]


def _sum(offsets: dict[str, float], who: str) -> float:
    return sum(_length(offsets, piece) for stage in STAGES for piece in stage.pieces if piece.who == who)


def main() -> None:
    """Measures, tells, and draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=4000)
    parser.add_argument("--sandbox", default="auto")
    parser.add_argument("--folder", type=Path, default=ROOT / "docs" / "pictures")
    asked = parser.parse_args()
    offsets, plain, count = measure(asked.calls, asked.sandbox)
    for stage in STAGES:
        pieces = "  ".join(f"{piece.who} {_length(offsets, piece):.1f}" for piece in stage.pieces)
        print(f"{stage.english:22} {sum(_length(offsets, piece) for piece in stage.pieces):7.1f} µs   {pieces}")
    print(
        f"{count} calls of {offsets['received']:.0f} µs; {plain:.0f} µs where nothing is noted; "
        f"load {os.getloadavg()[0]:.1f}"
    )
    for language, name in (("en", "waterfall.svg"), ("zh", "waterfall.zh-CN.svg")):
        (asked.folder / name).write_text(draw(offsets, language), "utf-8")


if __name__ == "__main__":
    if NOTES in os.environ:
        serve_noting()
    else:
        main()
