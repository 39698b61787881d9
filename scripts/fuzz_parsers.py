"""Gives the parsers whatever comes to mind, for a while, and says what broke.

    .venv/bin/python scripts/fuzz_parsers.py [--seconds 600] [--only NAME]

Ends with 1 if a target found something; the smallest input that shows it is printed.
"""

import argparse
import logging
import sys
import time
import traceback
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from rich.progress import Progress

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "server")]

from fuzz.targets import TARGETS  # noqa: E402

AT_ONCE = 200
"""Inputs to a target before the next one has its turn."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz the parsers of the gateway and of the SDK.")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--only", choices=sorted(TARGETS))
    asked = parser.parse_args()
    logging.disable()
    names = [asked.only] if asked.only else list(TARGETS)
    counts, broken = dict.fromkeys(names, 0), set[str]()
    began = time.monotonic()
    with Progress(disable=not sys.stdout.isatty()) as progress:
        task = progress.add_task("inputs", total=asked.seconds)
        while (passed := time.monotonic() - began) < asked.seconds and len(broken) < len(names):
            for name in names:
                progress.update(task, completed=passed, description=name)
                if name not in broken and not _run(name, counts):
                    broken.add(name)
                if (passed := time.monotonic() - began) >= asked.seconds:
                    break
    for name, count in counts.items():
        print(f"{count:8}  {name}{'  BROKEN' if name in broken else ''}")
    print(f"{sum(counts.values())} inputs in {time.monotonic() - began:.0f} s, {len(broken)} targets broken")
    return 1 if broken else 0


def _run(name: str, counts: dict[str, int]) -> bool:
    target = TARGETS[name]

    @settings(max_examples=AT_ONCE, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(target.inputs)
    def run(thing: object) -> None:
        counts[name] += 1
        target.check(thing)

    try:
        run()
    except Exception:
        traceback.print_exc()
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
