"""Never finishes its import."""

import time

print("importing", flush=True)
time.sleep(3600)


def f():
    return 1
