"""Runs an agent for `gateway dev`, and ends with it, in whatever way that ends.

The agent's own interpreter is given this file as text: it may import nothing of the gateway's.
"""

import os
import runpy
import signal
import sys
import threading
from importlib.util import find_spec


def main() -> None:
    """Runs uvicorn with the arguments of this process."""
    threading.Thread(target=_end_with, args=(os.dup(0),), daemon=True).start()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    if find_spec("uvicorn") is None:
        sys.exit(f"There is no uvicorn in this environment. Install it with: {sys.executable} -m pip install uvicorn")
    sys.argv[0] = "uvicorn"
    runpy.run_module("uvicorn", run_name="__main__")


def _end_with(gateway: int) -> None:
    """The pipe ends when the gateway has ended, even if it was killed."""
    os.read(gateway, 1)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
