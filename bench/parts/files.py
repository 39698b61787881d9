"""A large file up and down: the SDK beside curl at the same signed URLs, and beside the store's own client."""

import os
import shutil
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path

from bench import bucket
from bench.bucket import Bucket
from bench.child import ask
from bench.endpoint import HOST
from bench.product import Product
from bench.results import Table, spread_text, text
from bench.server import Failed
from bench.session import Session
from bench.spread import Spread, ratios

Side = Callable[[], float]
DOWN = 2
"""So many times the rounds: a download takes a fraction of a second."""
WARM = 1.5
"""So many times the file's size is written to the disk's cache, and given up, before each transfer."""


def measure(session: Session) -> None:
    """Through the gateway's own store, beside curl; then with a store that speaks S3, where there is one."""
    if not shutil.which("curl"):
        session.results.missing["files"] = "curl is not installed"
        return
    source, target = session.work / "source", session.work / "target"
    with open(source, "wb") as file:
        for _ in range(session.pace.megabytes):
            file.write(os.urandom(1 << 20))
    try:
        _disk(session, source, target)
        if session.with_peers:
            _s3(session, source, target)
    finally:
        source.unlink()
        target.unlink(missing_ok=True)


def _disk(session: Session, source: Path, target: Path) -> None:
    session.show.step(f"{session.pace.megabytes} MB, store on this disk")
    bare, bare_endpoint = session.bare()
    with session.product("files") as product, bare:
        bare.answers(bare_endpoint)
        place = f"http://{HOST}:{bare_endpoint.port}/file"
        transfers = _Transfers(product, source, target)
        bare_up, bare_down = (lambda: _curl_up(source, place)), (lambda: _curl_down(place, target))
        up = _alternate(session, [transfers.sdk_up, transfers.curl_up, bare_up])
        down = _alternate(session, [transfers.sdk_down, transfers.curl_down, bare_down], DOWN)
    session.results.findings["files.up"] = ratios(up[0], up[1])
    session.results.findings["files.down"] = ratios(down[0], down[1])
    names = ("SDK", "curl, the same URL", "curl, Starlette that writes and reads a file")
    _table(session, f"{session.pace.megabytes} MB, store on this disk", names, up, down)


def _s3(session: Session, source: Path, target: Path) -> None:
    if not bucket.PROGRAM.exists():
        session.results.missing["files in S3"] = "SeaweedFS is not installed"
        return
    session.show.step(f"{session.pace.megabytes} MB, store that speaks S3")
    store = Bucket(session.work / "s3")
    try:
        with store:
            health = f"http://{HOST}:{store.port}/healthz"
            store.wait(lambda: urllib.request.urlopen(health, timeout=5).status == 200)
            with session.product("files-s3", "--store", f"s3://{bucket.NAME}", env=store.env) as product:
                transfers = _Transfers(product, source, target, store.env)
                up = _alternate(session, [transfers.sdk_up, transfers.curl_up, transfers.store_up])
                down = _alternate(session, [transfers.sdk_down, transfers.curl_down, transfers.store_down], DOWN)
    except (Failed, RuntimeError) as error:
        session.results.missing["files in S3"] = str(error)
        return
    names = ("SDK", "curl, a signed URL", "obstore, straight to the store")
    _table(session, f"{session.pace.megabytes} MB, store that speaks S3 (SeaweedFS)", names, up, down)


def _alternate(session: Session, sides: list[Side], times: int = 1) -> list[list[float]]:
    """Alternates transfers, each of which finds memory that the machine really has.

    A virtual machine gives memory that it does not use back to its host, and gets it again page by page when it is
    touched: a file that fills such memory takes ten times as long, whoever writes it.
    """

    def warmed(side: Side) -> Side:
        def run() -> float:
            _warm(session)
            return side()

        return run

    return session.alternate([warmed(side) for side in sides], times * session.pace.rounds)


def _warm(session: Session) -> None:
    scratch = session.work / "scratch"
    piece = bytes(1 << 20)
    with open(scratch, "wb") as file:
        for _ in range(int(WARM * session.pace.megabytes)):
            file.write(piece)
    scratch.unlink()


def _table(
    session: Session, title: str, names: tuple[str, ...], up: list[list[float]], down: list[list[float]]
) -> None:
    rows = []
    for name, ups, downs in zip(names, up, down, strict=True):
        cells = [name]
        for seconds, reference in ((ups, up[1]), (downs, down[1])):
            rate = [session.pace.megabytes / one for one in seconds]
            cells += [text(Spread.of(rate).median), spread_text(ratios(seconds, reference))]
        rows.append(cells)
    head = ("", "up MB/s", "time against curl's", "down MB/s", "time against curl's")
    session.results.tables.append(Table(f"Files: {title}", head, rows, "Down ends in a new file on the disk, too."))


class _Transfers:
    """Ways to move the file by one gateway; each gives seconds."""

    def __init__(self, product: Product, source: Path, target: Path, env: dict[str, str] | None = None) -> None:
        self._product, self._source, self._target = product, source, target
        self._env = env
        self._token = product.token()
        self._s3_url = ""

    def sdk_up(self) -> float:
        told = self._ask("sdk_up", self._source)
        self._s3_url = str(told["gave"])
        return float(told["seconds"])

    def sdk_down(self) -> float:
        self._target.unlink(missing_ok=True)
        return float(self._ask("sdk_down", self._target)["seconds"])

    def store_up(self) -> float:
        return float(self._ask("store_up", self._source)["seconds"])

    def store_down(self) -> float:
        return float(self._ask("store_down", self._target)["seconds"])

    def curl_up(self) -> float:
        wish = {"filename": "source", "content_type": None}
        made = self._product.as_token(self._token, "POST", "/internal/files/generate_upload_url", json=wish)
        return _curl_up(self._source, self._whole(made["upload_url"]))

    def curl_down(self) -> float:
        query = {"s3_url": self._s3_url, "mode": "presigned"}
        made = self._product.as_token(self._token, "GET", "/internal/files/download", params=query)
        return _curl_down(self._whole(made["presigned_url"]), self._target)

    def _ask(self, do: str, path: Path) -> dict[str, str]:
        order = {"do": do, "path": str(path), "url": self._product.url, "token": self._token, "s3_url": self._s3_url}
        told: dict[str, str] = ask("file_timing", {**order, "bucket": bucket.NAME, "key": "bench/file"}, env=self._env)
        return told

    def _whole(self, url: str) -> str:
        return self._product.url + url if url.startswith("/") else url


def _curl_up(source: Path, url: str) -> float:
    return _curl("-T", str(source), "-H", "Expect:", "-o", os.devnull, url)


def _curl_down(url: str, target: Path) -> float:
    target.unlink(missing_ok=True)
    return _curl("-o", str(target), url)


def _curl(*arguments: str) -> float:
    command = ["curl", "-sS", "--fail", "--noproxy", "*", "-w", "%{time_total}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"curl: {done.stderr[-300:]}")
    return float(done.stdout)
