"""Changes of folders that somebody is working on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from watchfiles import Change, DefaultFilter, awatch

from gateway_server.cli.failures import DEV_DATA

SETTLE = 100
"""Milliseconds without a further change, after which a folder is looked at again."""


@asynccontextmanager
async def watched(folder: Path, suffixes: tuple[str, ...] = ()) -> AsyncIterator[asyncio.Event]:
    """Gives an event that is set after every change; if `suffixes` are given, of files that end so."""
    changed = asyncio.Event()
    watch = asyncio.create_task(_watch(folder, _Sources(suffixes), changed))
    try:
        yield changed
    finally:
        watch.cancel()


async def _watch(folder: Path, sources: "_Sources", changed: asyncio.Event) -> None:
    async for _ in awatch(folder, watch_filter=sources, step=SETTLE):
        changed.set()


class _Sources(DefaultFilter):
    """What tools and this gateway itself write is no change of what somebody is working on."""

    ignore_dirs = (*DefaultFilter.ignore_dirs, DEV_DATA, ".ruff_cache")

    def __init__(self, suffixes: tuple[str, ...]) -> None:
        self._suffixes = suffixes
        super().__init__()

    def __call__(self, change: Change, path: str) -> bool:
        return super().__call__(change, path) and (not self._suffixes or path.endswith(self._suffixes))
