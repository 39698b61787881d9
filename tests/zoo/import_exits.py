"""Dies at import."""

import os

os._exit(9)


def f():
    return 1
