"""Many users: on one prefab that is warm, and on as many prefabs of which none has a process yet."""

import random
from collections.abc import Sequence

from bench import load, prefab, processes
from bench.endpoint import TEXT
from bench.product import Product
from bench.results import Table, spread_text, text
from bench.session import Session
from bench.spread import Spread, ratios

NEEDED_MB = 4
"""Memory that must be there for each worker before so many are begun."""


def measure(session: Session) -> None:
    """As many connections as users throughout: warm ones beside those of one user, then everything from cold."""
    count = session.pace.users
    product = session.product("users")
    names = [f"bench-{number}" for number in range(count)]
    with product:
        session.show.step(f"{count} users, {count} prefabs")
        for name in (prefab.ID, *names):
            product.publish(name)
        keys = [product.key(f"user-{number}") for number in range(count)]
        session.show.step(f"{count} users, one prefab")
        _warm(session, product, keys)
    needed = count * count * NEEDED_MB
    if (free := _free_mb()) < needed:
        session.results.missing["many users from cold"] = f"{needed:,} MB should be free, and {free:,.0f} are"
        return
    with product:  # anew: nothing has a process now
        session.show.step(f"{count} users × {count} prefabs")
        _cold(session, product, keys, names)


def _warm(session: Session, product: Product, keys: Sequence[str]) -> None:
    endpoint = product.endpoint(keys[0])
    sides = [session.slices(product, endpoint, len(keys), users=users) for users in (keys, keys[:1])]
    for side in sides:
        side()  # the workers are there from here on
    many, one = session.alternate(sides)
    rates = [[each.rate for each in side] for side in (many, one)]
    session.results.findings["users.warm"] = ratio = ratios(*rates)
    cost = [text(Spread.of([each.cpu for each in side]).median) for side in (many, one)]
    errors = [str(sum(each.errors for each in side)) for side in (many, one)]
    medians = [text(Spread.of(rate).median) for rate in rates]
    rows = [
        [f"{len(keys)} users in turn", medians[0], f"**{spread_text(ratio)}**", cost[0], errors[0]],
        ["one user", medians[1], "", cost[1], errors[1]],
    ]
    head = ("", "requests/s", "against one user", "µs of processor per call", "errors")
    note = f"{len(keys)} connections, one prefab; each user has workers of their own."
    session.results.tables.append(Table("Many users", head, rows, note))


def _cold(session: Session, product: Product, keys: Sequence[str], names: Sequence[str]) -> None:
    calls = [(key, name) for key in keys for name in names]
    random.Random(1).shuffle(calls)
    requests = [product.endpoint(key, prefab.call("echo", name, text=TEXT)).text() for key, name in calls]
    rows, memory = [], [product.pss_mb()]
    passes = []
    for title in ("from cold", "the same once more"):
        sent = load.volley(product.port, requests, connections=len(keys))
        passes.append(sent)
        memory.append(product.pss_mb())
        rate = len(requests) / sent.seconds[0]
        slowest = text(max(sent.each) * 1000)
        shown = [text(rate), slowest, str(sent.failed), text(memory[-1]), f"{len(product.pids()):,}"]
        rows.append([title, *shown])
    session.results.findings["users.cold"] = Spread.of([len(requests) / passes[0].seconds[0]])
    session.results.state("users.errors", not any(sent.failed for sent in passes))
    each = (memory[1] - memory[0]) / len(requests)
    note = f"{len(keys)} users call {len(names)} prefabs each, over {len(keys)} connections in random order, once."
    note += (
        f" {text(memory[0])} MB before; {text(each)} MB for each worker, with its share of the process it comes from."
    )
    note += "".join(f" Failed: {failure}" for sent in passes for failure in sent.failures)
    head = ("", "calls/s", "slowest ms", "errors", "memory (PSS) MB", "processes")
    session.results.tables.append(Table(f"{len(keys)} users × {len(names)} prefabs", head, rows, note))


def _free_mb() -> float:
    """Memory that can be had without swapping."""
    lines = (processes.PROC / "meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) / 1024
