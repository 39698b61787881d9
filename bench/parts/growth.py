"""What a call costs where there is little of something, and where there is much: each thing that can become many."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench import idle, prefab, seeding
from bench.endpoint import TEXT
from bench.product import Product
from bench.results import Table, spread_text, text
from bench.session import Session
from bench.spread import Spread, ratios

CONNECTIONS = 16
NOTHING = "nothing"
"""Two gateways that are alike: what they differ by is noise."""
HELD = ("prefabs", "users", "jobs")
"""Of these the costliest is held to a goal."""
FILE = b"x" * 1000
WORKERS_OF_ONE = 100
"""Idle workers of one prefab."""
MOST_LIVE = {"open streams": 10_000, "idle workers": 1_000}
"""Where each is a connection or a process: more do not fit on a small machine."""


@dataclass(frozen=True)
class Thing:
    """Something of which there can be many."""

    name: str
    body: str
    """The call whose cost may depend on it."""
    seed: Callable[..., None] | None = None
    """Writes so many into a data folder."""
    live: Callable[[Product, str, int], contextlib.AbstractContextManager[None]] | None = None
    """Makes so many in a running gateway."""


def measure(session: Session) -> None:
    """Two gateways for each thing, with little and with much of it, in turn."""
    rows = []
    costs: dict[str, Spread] = {}
    little, *sizes = session.pace.growth
    base = _Base(session)
    for thing in THINGS:
        for size in sizes:
            much = min(size, MOST_LIVE.get(thing.name, size))
            if size != sizes[0] and (thing.name == NOTHING or (much < size and much in sizes)):
                continue
            session.show.step(thing.name if thing.name == NOTHING else f"{much:,} {thing.name}")
            try:
                row, cost = _compare(session, base, thing, little, much)
            except Exception as error:
                session.results.missing[f"growth of {thing.name} to {much:,}"] = f"{type(error).__name__}: {error}"
                continue
            rows.append(row)
            if thing.name in HELD:
                costs[f"{much:,} {thing.name}"] = cost
    head = ("of these", "how many", "µs of processor per call", "with few", "ratio", "requests/s, ratio")
    note = f"Few are {little}. 16 connections; the call reads a secret where secrets grow, and a file where files grow."
    note += " Nothing: two gateways that are alike, which shows the noise."
    if costs:
        worst = max(costs, key=lambda name: costs[name].median)
        session.results.findings["growth.call"] = costs[worst]
        note += f" The worst of {', '.join(HELD)}: {worst}."
    session.results.tables.append(Table("Growth", head, rows, note))


def _compare(session: Session, base: "_Base", thing: Thing, little: int, much: int) -> tuple[list[str], Spread]:
    with contextlib.ExitStack() as stack:
        sides = []
        for size in (little, much):
            product = session.product(f"growth-{thing.name.replace(' ', '-')}-{size}-of-{much}")
            shutil.copytree(base.folder, product.folder, symlinks=True)
            if thing.seed:
                thing.seed(product.folder, size)
            stack.enter_context(product)
            if thing.live:
                stack.enter_context(thing.live(product, base.key, size))
            endpoint = product.endpoint(base.key, base.bodies[thing.body])
            endpoint.check()
            sides.append(session.slices(product, endpoint, CONNECTIONS))
        for side in sides:
            side()
        few, many = session.alternate(sides, max(2, session.pace.rounds - 1))
    cost = ratios([one.cpu for one in many], [one.cpu for one in few])
    rate = ratios([one.rate for one in many], [one.rate for one in few])
    cpu = [text(Spread.of([one.cpu for one in side]).median) for side in (many, few)]
    how_many = f"{much:,}" if thing.name != NOTHING else ""
    return [thing.name, how_many, *cpu, f"**{spread_text(cost)}**", spread_text(rate)], cost


class _Base:
    """A data folder with one of each thing, which every gateway here begins with a copy of."""

    def __init__(self, session: Session) -> None:
        session.show.step("one of each")
        product = session.product("growth")
        self.folder = product.folder
        with product:
            product.publish()
            self.key = product.key()
            secret = {"prefab_id": prefab.ID, "secret_name": prefab.SECRET, "secret_value": "a value of no use"}
            product.as_token(self.key, "POST", "/v1/secrets", json=secret)
            wish = {"filename": "small", "content_type": None}
            made = product.as_token(self.key, "POST", "/internal/files/generate_upload_url", json=wish)
            product.put(made["upload_url"], FILE)
            self.bodies = {
                "echo": prefab.call("echo", text=TEXT),
                "reads_secret": prefab.call("reads_secret", text=TEXT),
                "reads_file": prefab.call("reads_file", files={"input": [made["s3_url"]]}, text=TEXT),
            }
            for body in self.bodies.values():
                product.endpoint(self.key, body).check()


@contextlib.contextmanager
def _streams(product: Product, key: str, count: int) -> Iterator[None]:
    """Connections that follow the events of a job that says nothing."""
    with idle.streams(product, key) as streams:
        streams.open(count)
        yield


@contextlib.contextmanager
def _workers(product: Product, _key: str, count: int) -> Iterator[None]:
    """Users whose worker has served one call and waits for the next, in several prefabs: each has a bounded number."""
    for number in range(count):
        name = f"idle-{number // WORKERS_OF_ONE}"
        if number % WORKERS_OF_ONE == 0:
            product.publish(name)
        product.endpoint(product.token(f"idle-{number}"), prefab.call("echo", name, text=TEXT)).check()
    yield


THINGS = (
    Thing(NOTHING, "echo"),
    Thing("prefabs", "echo", seeding.prefabs),
    Thing("users", "echo", seeding.users),
    Thing("secrets", "reads_secret", seeding.sealed),
    Thing("jobs", "echo", seeding.jobs),
    Thing("files", "reads_file", seeding.files),
    Thing("open streams", "echo", live=_streams),
    Thing("idle workers", "echo", live=_workers),
)
