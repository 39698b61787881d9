"""Nobody has more than a share of the gateway's time while others call."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_server.engine.local import pace as module
from gateway_server.engine.local.pace import BURST, BYTE, EACH, LONGEST, MOST, SHARE, SHORTEST, Pace

LARGE = int(2 * BURST / BYTE)
"""Bytes that cost more than what is free."""


class Clock:
    """Stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_who_is_alone_never_waits_and_owes_nothing_when_others_come(clock):
    others = set()
    pace = Pace(lambda user: bool(others - {user}))
    assert pace.wait("ann", 0, 100 * LARGE) == 0
    others.add("ben")
    assert pace.wait("ann", 1, 1) == 0


def test_a_little_is_free_and_much_is_not(clock):
    pace = Pace(lambda _user: True)
    assert pace.wait("ann", 1, 1000) == 0
    wait = pace.wait("ann", 0, LARGE)
    assert wait == pytest.approx((EACH + (1000 + LARGE) * BYTE - BURST) / SHARE)
    assert pace.wait("ben", 1, 1000) == 0


def test_what_was_waited_for_is_paid(clock):
    pace = Pace(lambda _user: True)
    clock.now += pace.wait("ann", 0, LARGE) + BURST / SHARE
    assert pace.wait("ann", 1, 0) == 0


def test_no_wait_is_longer_than_that(clock):
    pace = Pace(lambda _user: True)
    assert pace.wait("ann", 0, 1000 * LARGE) == pytest.approx(LONGEST - BURST / SHARE)


@given(st.lists(st.tuples(st.integers(1, 100), st.integers(0, LARGE)), min_size=50, max_size=200))
def test_who_waits_as_told_has_no_more_than_a_share(pieces):
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "time", clock)
        pace, began, taken = Pace(lambda _user: True), clock.now, 0.0
        for count, size in pieces:
            cost = count * EACH + size * BYTE
            taken += cost
            clock.now += cost + pace.wait("ann", count, size)
        assert taken <= SHARE * (clock.now - began + SHORTEST) + BURST + max(n * EACH + s * BYTE for n, s in pieces)


def test_users_who_have_paid_are_forgotten_where_there_are_many(clock):
    pace = Pace(lambda _user: True)
    for number in range(3 * MOST):
        pace.wait(f"user {number}", 1, 0)
        clock.now += 1
    assert len(pace._paid) <= MOST + 1
