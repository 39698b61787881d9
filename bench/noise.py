"""The baseline against itself: what two sides that are the same differ by is what the machine adds."""

from bench.session import Session
from bench.spread import ratios_of

CONNECTIONS = 16


def pairs(session: Session) -> list[float]:
    """Ratios of neighbouring slices of one and the same server."""
    session.show.step("the baseline against itself")
    bare, endpoint = session.bare()
    with bare:
        bare.answers(endpoint)
        side = session.slices(bare, endpoint, CONNECTIONS)
        side()
        first, second = session.alternate([side, side])
    return ratios_of([one.rate for one in first], [one.rate for one in second])
