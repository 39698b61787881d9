"""What is measured, one module for each part; `PARTS` names them in the order in which they run."""

from collections.abc import Callable

from bench.parts import (
    batch,
    catalogue,
    client,
    files,
    growth,
    honest,
    large,
    memory,
    peers,
    stream,
    streams,
    unary,
    users,
    workers,
)
from bench.session import Session

PARTS: dict[str, Callable[[Session], None]] = {
    "unary": unary.measure,
    "honest": honest.measure,
    "batch": batch.measure,
    "peers": peers.measure,
    "stream": stream.measure,
    "streams": streams.measure,
    "large": large.measure,
    "client": client.measure,
    "files": files.measure,
    "workers": workers.measure,
    "users": users.measure,
    "memory": memory.measure,
    "catalogue": catalogue.measure,
    "growth": growth.measure,
}
