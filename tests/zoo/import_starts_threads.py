"""Starts a thread at import, after which forks are not safe."""

import os
import threading
import time
from pathlib import Path

ABSOLUTE = Path("data").resolve()
threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()


def f():
    return {"threads": threading.active_count(), "absolute": ABSOLUTE.is_dir(), "pid": os.getpid()}
