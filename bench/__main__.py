"""`python -m bench`: measures, and writes `bench/results/latest.md`, `.json` and `.svg`."""

import argparse
import contextlib
import ctypes
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench import noise, processes, report
from bench.environments import HERE, Missing, environment
from bench.machine import Watch, examine
from bench.parts import PARTS
from bench.peers import BARE, PEERS
from bench.progress import Progress
from bench.results import Results
from bench.session import FULL, LONG, QUICK, SMOKE, Pace, Session
from bench.spread import Spread

SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER of prctl(2): what a server leaves behind comes to us, and is ended."""


def main() -> int:
    """Runs the parts that were asked for."""
    asked = _arguments()
    parts = asked.only.split(",") if asked.only else list(PARTS)
    pace: Pace = SMOKE if asked.smoke else QUICK if asked.quick else LONG if asked.long else FULL
    show = Progress(len(parts))
    _prepare()
    try:
        with _cleaned(), tempfile.TemporaryDirectory(prefix="bench-") as folder:
            Path(folder).chmod(0o755)
            session = Session(pace, Path(folder), Results(), show, with_peers=not asked.smoke)
            _install(session)
            watch = Watch()
            pairs = noise.pairs(session)
            failed = _run(session, parts)
            session.results.noise = Spread.of([*pairs, *noise.pairs(session)])
            seen = watch.noise()
    except KeyboardInterrupt:
        show.say("Stopped; nothing was written.")
        return 130
    command = " ".join(["python -m bench", *sys.argv[1:]])
    paths = report.write(asked.results, session.results, examine(), seen, command)
    show.verdicts(report.summary(session.results))
    for name, why in session.results.missing.items():
        show.say(f"not measured: {name}: {why}")
    show.say(f"The machine was {seen.verdict(session.results.noise)}.")
    show.say("Written: " + ", ".join(map(str, paths)))
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", metavar="PART,…", default="", help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="the folder to write to")
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--quick", action="store_true", help="fewer and shorter slices: half the time, wider spreads")
    pace.add_argument("--long", action="store_true", help="growth up to 100,000, 1 GB files, 10,000 streams")
    pace.add_argument("--smoke", action="store_true", help="try the suite, without peers; the figures say nothing")
    asked = parser.parse_args()
    if unknown := [part for part in asked.only.split(",") if part and part not in PARTS]:
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return asked


def _run(session: Session, parts: list[str]) -> bool:
    """Runs parts; one that fails is told, and the next one begins. Gives whether one has failed."""
    failed = False
    for part in parts:
        session.show.part(part)
        began = time.monotonic()
        try:
            PARTS[part](session)
        except Exception as error:
            failed = True
            session.results.missing[part] = f"{type(error).__name__}: {error}"
        session.results.seconds[part] = round(time.monotonic() - began, 1)
    return failed


def _install(session: Session) -> None:
    """The environments of what is compared with, before anything is measured."""
    for peer in (BARE, *PEERS) if session.with_peers else ():
        session.show.step(f"environment of {peer.name} {peer.version}")
        with contextlib.suppress(Missing):  # told when it is needed
            environment(peer.packages.split()[0])


def _prepare() -> None:
    """Room for many connections; a signal to end is one to stop orderly."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell that put us behind it ignores it
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))


@contextlib.contextmanager
def _cleaned() -> Iterator[None]:
    """Ends whatever of ours still runs at the end, however that came."""
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # once is enough
        processes.end(processes.family({os.getpid()}) - {os.getpid()})
        signal.signal(signal.SIGINT, signal.default_int_handler)


if __name__ == "__main__":
    sys.exit(main())
