"""Memory of a gateway at rest, with few and with many versions, and of versions that are idle: called, and waiting."""

import itertools
import time
from collections.abc import Sequence
from functools import partial

from bench import prefab, seeding
from bench.endpoint import TEXT
from bench.product import Product
from bench.results import Table, spread_text, text
from bench.session import Session
from bench.spread import Spread

GROUP = 5
"""Versions between two looks."""
SETTLE = 0.5
"""Seconds until what a call, or a start, set in motion has come to rest."""


def measure(session: Session) -> None:
    """The whole tree of processes, always: before any call, and as it grows with every further version and worker."""
    rest, full = _at_rest(session)
    session.results.findings |= {"memory.rest": rest, "memory.catalogue": full}
    rows = [
        ["the gateway at rest, nothing published", spread_text(rest)],
        [f"with {session.pace.versions:,} versions, none of them called", spread_text(full)],
        *_idle(session),
    ]
    note = "A version's own: the process that its workers come from. One worker more waits for the next new user."
    note += (
        " A worker's is what a call of a further user adds, who takes that one, while another is made; the version's"
    )
    note += " own is what its first call adds, less its workers."
    session.results.tables.append(Table("Memory", ("", "PSS MB"), rows, note))


def _at_rest(session: Session) -> tuple[Spread, Spread]:
    """Right after its start, without and with a catalogue."""
    products = [session.product("rest"), session.product("rest-full")]
    for product in products:
        with product:
            if product is products[1]:
                product.publish()
    seeding.prefabs(products[1].folder, session.pace.versions - 1)
    session.show.step("at rest")
    empty, full = session.alternate([partial(_started, one) for one in products], session.pace.rounds - 1)
    return Spread.of(empty), Spread.of(full)


def _started(product: Product) -> float:
    with product:
        time.sleep(SETTLE)
        return product.pss_mb()


def _idle(session: Session) -> list[list[str]]:
    """Versions are called by a first user, group after group, then by a second one."""
    groups, size = max(2, session.pace.repeats // GROUP), min(GROUP, session.pace.repeats)
    with session.product("memory") as product:
        names = [f"idle-{number}" for number in range(groups * size)]
        for name in (prefab.ID, *names):
            product.publish(name)
        keys = [product.key(f"user-{number}") for number in range(2)]
        for key in keys:
            _call(product, key, [prefab.ID])
        before = len(product.pids())
        whole = _growth(session, product, keys[0], names, size)
        between = len(product.pids())
        worker = _growth(session, product, keys[1], names, size)
        count, memory = len(product.pids()), product.pss_mb()
    # A version has as many workers after its first call as processes beyond its own one; two, if one is kept ready.
    workers = round((between - before) / max(1, count - between)) - 1
    own = [version - workers * one for version, one in zip(whole, worker, strict=True)]
    session.results.findings |= {"memory.zygote": Spread.of(own), "memory.worker": Spread.of(worker)}
    return [
        [f"with {1 + len(names)} idle versions, two users each, {count} processes", text(memory)],
        [f"each further version that was called once, with {workers} workers", spread_text(Spread.of(whole))],
        ["of that, the version's own", spread_text(Spread.of(own))],
        ["each further worker", spread_text(Spread.of(worker))],
    ]


def _growth(session: Session, product: Product, key: str, names: Sequence[str], size: int) -> list[float]:
    """What a call of each version adds, group after group."""
    looks = [product.pss_mb()]
    for begin in range(0, len(names), size):
        session.show.step(f"{begin + size} idle versions")
        _call(product, key, names[begin : begin + size])
        looks.append(product.pss_mb())
    return [(after - before) / size for before, after in itertools.pairwise(looks)]


def _call(product: Product, key: str, names: Sequence[str]) -> None:
    for name in names:
        product.endpoint(key, prefab.call("echo", name, text=TEXT)).check()
    time.sleep(SETTLE)
