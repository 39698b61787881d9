"""Fails at import."""

raise RuntimeError("cannot be imported")


def f():
    return 1
