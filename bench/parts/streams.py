"""Many open streams on which nothing happens: what memory each takes."""

import itertools
import resource
import time

from bench import idle
from bench.results import Table, spread_text, text
from bench.session import Session
from bench.spread import Spread

GROUPS = 4
"""Looks at the memory while they are opened."""
FIRST = 20
"""Streams before the first look: what the first one takes, it does not take for each."""
SPARE = 500
"""Descriptors that gateway and suite need for other things."""
SETTLE = 1.0
"""Seconds until what was set in motion has come to rest."""


def measure(session: Session) -> None:
    """The growth of the whole tree of processes with the streams of a silent job's events."""
    count = _count(session)
    size = count // GROUPS
    with session.product("streams") as product:
        product.publish()
        key = product.key()
        with idle.streams(product, key) as streams:
            streams.open(FIRST)
            time.sleep(SETTLE)
            looks = [product.pss_mb()]
            for number in range(GROUPS):
                session.show.step(f"{size * (number + 1):,} open streams")
                streams.open(size)
                time.sleep(SETTLE)
                looks.append(product.pss_mb())
    each = Spread.of([(after - before) * 1024 / size for before, after in itertools.pairwise(looks)])
    session.results.findings["streams.each"] = each
    rows = [
        [f"with {FIRST} of them, MB", text(looks[0])],
        [f"with {FIRST + size * GROUPS:,}, MB", text(looks[-1])],
        ["each, KB", spread_text(each)],
    ]
    note = "Streams of the events of a job that says nothing. What the kernel keeps for a connection is not in it."
    session.results.tables.append(Table("Open streams", ("", "memory (PSS)"), rows, note))


def _count(session: Session) -> int:
    wanted = session.pace.streams
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY or allowed >= wanted + SPARE:
        return wanted
    count = max(GROUPS, allowed - SPARE)
    session.results.missing[f"{wanted:,} open streams"] = f"{allowed:,} descriptors are allowed; {count:,} were opened"
    return count
