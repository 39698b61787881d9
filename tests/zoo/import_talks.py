"""Fails at import, and says more about it than anybody wants to know."""

raise RuntimeError("told at length: " + "你" * 100_000)


def f():
    return 1
