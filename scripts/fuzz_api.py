"""Sends requests of every kind to a gateway of its own, and says what broke its word.

    .venv/bin/python scripts/fuzz_api.py [--requests 20000] [--seed N] [--callers 4]

Ends with 1 if there is a finding, or if less than a fifth of the requests to some operation succeed.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from rich.progress import Progress

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "server")]

from fuzz.campaign import fuzz  # noqa: E402

LEAST_SHARE = 0.2


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz the API of a gateway.")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--callers", type=int, default=4, help="Users that send at the same time.")
    asked = parser.parse_args()
    print(f"Seed {asked.seed}")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, Progress(disable=not sys.stdout.isatty()) as progress:
        task = progress.add_task("requests", total=asked.requests)
        campaign = fuzz(
            Path(folder),
            seed=asked.seed,
            requests=asked.requests,
            callers=asked.callers,
            tell=lambda done: progress.update(task, completed=done),
        )
    sent = sum(tally.requests for tally in campaign.tallies.values())
    poor = [name for name, tally in campaign.tallies.items() if tally.share < LEAST_SHARE]
    print(campaign.table())
    for finding in campaign.findings:
        print(f"- {finding}")
    for name in poor:
        print(f"- too few successes: {name}")
    print(f"{sent} requests in {time.monotonic() - began:.0f} s, {len(campaign.findings)} findings")
    return 1 if campaign.findings or poor or sent < asked.requests else 0


if __name__ == "__main__":
    sys.exit(main())
