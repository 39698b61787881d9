"""Users that a command makes by naming them: somebody new, or a name that was mistyped."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager

from gateway_server.cli import http, terminal
from gateway_server.cli.failures import Failure

NOT_FOUND = 404


@contextmanager
def noted(user: str | None) -> Iterator[None]:
    """Tells, once something has been done for a user, if there was no such user before."""
    is_new = user is not None and _lack(user) is not None
    yield
    if user is not None and is_new:
        terminal.say(f"Note: {user} is a new user, without a key: gateway key create --user {shlex.quote(user)}")


def require(user: str) -> None:
    """Looks whether there is such a user, as far as the caller may know.

    Raises:
        Failure: there is none.
    """
    if (lack := _lack(user)) is not None:
        raise lack


def _lack(user: str) -> Failure | None:
    """How the gateway says that there is no such user, if it does."""
    place = f"/v1/users/{http.segment(user, 'USER')}"
    try:
        http.ask("GET", place)
    except Failure as failure:
        return failure if failure.status == NOT_FOUND else None
    return None
