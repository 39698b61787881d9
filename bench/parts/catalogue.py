"""Ten thousand prefabs beside ten: what a call and publishing cost, and how long the gateway takes to start."""

import time
from collections.abc import Callable
from itertools import count

from bench import prefab, seeding
from bench.product import Product
from bench.results import Table, spread_text, text
from bench.session import Session
from bench.spread import Spread, ratios

FEW = 10
CONNECTIONS = 16
PUBLISHED = 5
"""Prefabs in one slice of publishing."""


def measure(session: Session) -> None:
    """Two gateways, alike but for their catalogues, in turn."""
    many = session.pace.many
    few_product, many_product = session.product("few"), session.product("many")
    for product, number in ((few_product, FEW), (many_product, many)):
        session.show.step(f"{number:,} prefabs")
        with product:
            product.publish()
            product.endpoint(product.key()).check()
        seeding.prefabs(product.folder, number - 1)
    starts: dict[str, list[float]] = {"few": [], "many": []}
    for _ in range(max(2, session.pace.rounds - 1)):
        session.show.step("starts")
        for name, product in (("few", few_product), ("many", many_product)):
            with product:
                starts[name].append(product.started_in)
    with few_product, many_product:
        session.show.step("calls")
        products = (few_product, many_product)
        endpoints = [product.endpoint(product.key()) for product in products]
        sides = [session.slices(*pair, CONNECTIONS) for pair in zip(products, endpoints, strict=True)]
        for side in sides:
            side()
        few, large = session.alternate(sides)
        session.show.step("publishing")
        publish = [_publishing(product) for product in products]
        for warm in publish:
            warm()
        few_times, many_times = session.alternate(publish, session.pace.rounds + 2)
        memory = [product.pss_mb() for product in products]
    findings = session.results.findings
    findings["catalogue.call"] = cost = ratios([one.cpu for one in large], [one.cpu for one in few])
    findings["catalogue.publish"] = published = ratios(many_times, few_times)
    findings["catalogue.start"] = start = Spread.of(starts["many"])
    rates = [[one.rate for one in side] for side in (few, large)]
    costs = [[one.cpu for one in side] for side in (few, large)]
    rows = [
        ["requests/s, 16 connections", *_medians(*rates), spread_text(ratios(rates[1], rates[0]))],
        ["µs of processor per call", *_medians(*costs), spread_text(cost)],
        ["publish one, ms", *_medians(few_times, many_times), spread_text(published)],
        ["start, s", *_medians(starts["few"], starts["many"]), spread_text(ratios(starts["many"], starts["few"]))],
        ["memory (PSS), MB", *map(text, memory), text(memory[1] / memory[0])],
    ]
    head = ("", f"{FEW} prefabs", f"{many:,} prefabs", "ratio")
    note = f"Start: from the command until it listens, {text(start.median)} s; the environment of python included."
    session.results.tables.append(Table("A large catalogue", head, rows, note))


def _publishing(product: Product) -> Callable[[], float]:
    numbers = count()

    def side() -> float:
        began = time.perf_counter()
        for _ in range(PUBLISHED):
            product.publish(f"new-{next(numbers)}", prefab.VERSION)
        return (time.perf_counter() - began) / PUBLISHED * 1000

    return side


def _medians(*columns: list[float]) -> list[str]:
    return [text(Spread.of(column).median) for column in columns]
