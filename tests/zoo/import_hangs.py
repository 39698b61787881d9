"""Never finishes its import."""

import time

time.sleep(3600)


def f():
    return 1
