"""Memory of versions that are idle: each has been called once, and waits."""

import itertools
import time

from bench import prefab
from bench.endpoint import TEXT
from bench.product import Product
from bench.results import Table, spread_text, text
from bench.session import Session
from bench.spread import Spread

GROUP = 5
"""Versions between two looks."""
SETTLE = 0.5
"""Seconds until what a call set in motion has come to rest."""


def measure(session: Session) -> None:
    """The growth of the whole tree of processes with every further version."""
    groups = max(2, session.pace.repeats // GROUP)
    size = min(GROUP, session.pace.repeats)
    with session.product("memory") as product:
        names = [f"idle-{number}" for number in range(1 + groups * size)]
        for name in names:
            product.publish(name)
        key = product.key()
        at_first = product.pss_mb()
        _call(product, key, names[:1])
        looks = [product.pss_mb()]
        for group in range(groups):
            session.show.step(f"{1 + (group + 1) * size} idle versions")
            _call(product, key, names[1 + group * size : 1 + (group + 1) * size])
            looks.append(product.pss_mb())
        count = len(product.pids())
    each = Spread.of([(after - before) / size for before, after in itertools.pairwise(looks)])
    session.results.findings["memory.idle"] = each
    rows = [
        ["the gateway before any call", text(at_first)],
        ["with one idle version", text(looks[0])],
        [f"with {len(names)} idle versions, {count} processes", text(looks[-1])],
        ["each further version", spread_text(each)],
    ]
    note = "An idle version: the process that its workers come from, an idle worker, and one that waits for a new user."
    session.results.tables.append(Table("Memory", ("", "PSS MB"), rows, note))


def _call(product: Product, key: str, names: list[str]) -> None:
    for name in names:
        product.endpoint(key, prefab.call("echo", name, text=TEXT)).check()
    time.sleep(SETTLE)
