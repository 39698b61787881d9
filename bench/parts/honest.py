"""Load that nothing can be spared for: every request has an Idempotency-Key of its own, its user a quota that is
counted, its function a secret. Afterwards every call is on record, also where the gateway was killed."""

import contextlib
import random
import secrets
import sqlite3
import time
from collections.abc import Sequence

from bench import load, prefab
from bench.endpoint import TEXT, Endpoint
from bench.load import Slice
from bench.parts import unary
from bench.product import Product
from bench.results import Table
from bench.session import Session
from bench.spread import ratios

CONNECTIONS = 16
LOOKED_UP = 100
EACH_REPEAT = 100
"""Requests that are counted one by one, for every repetition of the pace."""
SETTLE = 1.0
"""Seconds until requests that were cut at the end of a slice have ended."""


def measure(session: Session) -> None:
    """Slices beside the baseline; then as many requests as are counted, twice, a kill right behind the second time."""
    bare, bare_endpoint = session.bare()
    with session.product("honest") as product:
        product.publish()
        key = product.key()
        secret = {"prefab_id": prefab.ID, "secret_name": prefab.SECRET, "secret_value": "a value of no use"}
        product.as_token(key, "POST", "/v1/secrets", json=secret)
        endpoint = product.endpoint(key, prefab.call("reads_secret", text=TEXT))
        endpoint.check()
        calls = _Calls(product, key, endpoint)
        with bare:
            bare.answers(bare_endpoint)
            session.show.step(f"{CONNECTIONS} connections")
            sides = [
                session.slices(server, place, CONNECTIONS, fresh_keys=True)
                for server, place in ((product, endpoint), (bare, bare_endpoint))
            ]
            warm = [side() for side in sides]
            ours, theirs = session.alternate(sides)
        session.results.findings["honest.16"] = ratios([one.rate for one in ours], [one.rate for one in theirs])
        rows = _accounts(session, calls, [warm[0], *ours])
    head = ("connections", "requests/s", "Starlette's", "ratio", *unary.PAIRED, "errors")
    table = Table("Honest load", head, [unary.row(str(CONNECTIONS), ours, theirs)], NOTE)
    session.results.tables.append(table)
    session.results.tables.append(Table("Its records", ("", "requests answered", "records", "jobs found"), rows))


NOTE = (
    "Every request with an Idempotency-Key of its own, of a user with a finite quota, to a function that declares a"
    " secret and reads it; Starlette is sent the same headers, and does nothing about them."
)


def _accounts(session: Session, calls: "_Calls", slices: Sequence[Slice]) -> list[list[str]]:
    """States the facts; gives the rows that show them."""
    answered = 1 + sum(one.requests - one.errors for one in slices)  # one was the check
    cut = CONNECTIONS * len(slices) + sum(one.errors for one in slices)
    time.sleep(SETTLE)
    recorded = calls.recorded()
    session.show.step("calls that are counted")
    first = calls.send(EACH_REPEAT * session.pace.repeats)
    after_first, found = calls.recorded() - recorded, calls.found(first)
    session.show.step("kill -9, and a new start")
    second = calls.send(EACH_REPEAT * session.pace.repeats)
    calls.product.stop(kill=True)  # nobody has looked since the last answer
    calls.product.start()
    after_kill, kept = calls.recorded() - recorded, [calls.found(jobs) for jobs in (first, second)]
    is_complete = answered <= recorded <= answered + cut and after_first == len(first)
    session.results.state("honest.records", is_complete)
    session.results.state("honest.found", found == calls.looked_up(first))
    all_of_them = [calls.looked_up(jobs) for jobs in (first, second)]
    session.results.state("honest.kept", after_kill == len(first) + len(second) and kept == all_of_them)
    with_cut = f"{recorded:,}; up to {cut:,} more than answers may be, of requests that the end of a slice has cut"
    looked = [f"{one} of {most}" for one, most in zip([found, *kept], all_of_them[:1] + all_of_them, strict=True)]
    return [
        ["slices of load", f"{answered:,}", with_cut, ""],
        ["then, each answer waited for", f"{len(first):,}", f"{after_first:,}", looked[0]],
        ["again, and kill -9", f"{len(first) + len(second):,}", f"{after_kill:,}", f"{looked[1]}, {looked[2]}"],
    ]


class _Calls:
    """The calls of one user, and what is on record of them."""

    def __init__(self, product: Product, key: str, endpoint: Endpoint) -> None:
        self.product, self._key, self._endpoint = product, key, endpoint
        self._chance = random.Random(1)

    def send(self, count: int) -> list[str]:
        """So many requests, each answered with success; their jobs."""
        salt = secrets.token_hex(6)
        requests = [self._endpoint.text(f"{load.HEADER}: {salt}-{number}\r\n") for number in range(count)]
        return load.volley(self.product.port, requests, connections=CONNECTIONS).checked().jobs

    def recorded(self) -> int:
        """Records in the database, once the gateway has been asked for some: it takes over what it has before."""
        self.product.as_token(self._key, "GET", "/v1/jobs", params={"limit": 1})
        place = f"file:{self.product.folder / 'gateway.db'}?mode=ro"
        with contextlib.closing(sqlite3.connect(place, uri=True)) as connection:
            return int(connection.execute("SELECT count(*) FROM jobs").fetchone()[0])

    def found(self, jobs: Sequence[str]) -> int:
        """How many of some random ones the gateway tells the success of."""
        count = 0
        for job in self._chance.sample(jobs, self.looked_up(jobs)):
            with contextlib.suppress(RuntimeError):  # it was refused
                told = self.product.as_token(self._key, "GET", f"/v1/jobs/{job}")
                count += told["id"] == job and told["status"] == "succeeded"
        return count

    def looked_up(self, jobs: Sequence[str]) -> int:
        """How many `found` looks up."""
        return min(LOOKED_UP, len(jobs))
