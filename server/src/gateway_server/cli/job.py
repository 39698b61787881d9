"""`gateway job`: what ran, and what is running."""

import codecs
import math
import re
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import click

from gateway_server.cli import arguments, http, results, terminal
from gateway_server.cli.absence import Absence
from gateway_server.cli.failures import Code, Failure

STATES = ("queued", "starting", "running", "succeeded", "failed", "canceled", "timed_out", "expired")
WAITING, UNFINISHED = frozenset(STATES[:2]), frozenset(STATES[:3])
FAILED = frozenset(("failed", "timed_out"))
MARGIN = 2.0
"""Seconds in which an answer must come once the time that it was given is over."""
LONGEST_LOOK = 20.0
"""Seconds that the gateway is asked to hold its answer on a job that has not ended."""
FOLLOW_PAUSES = (0.2, 1.0)
"""Seconds between two looks at a log, after one that found something new and at most."""
_LEFT_OUT = re.compile(rb"\n--- (\d+) bytes left out ---\n")


def _newest(context: click.Context, _: click.Parameter, given: str | None) -> str | None:
    """The id that was given, else that of the caller's newest job, which is said."""
    if context.resilient_parsing:
        return given
    if given is not None:
        http.segment(given)  # which it is sent as
        return given
    jobs = http.ask("GET", "/v1/jobs", query={"limit": 1})["jobs"]
    if not jobs:
        raise Failure("Nothing has run yet. Run something with: gateway run")
    terminal.say(f"Newest job: {jobs[0]['id']}, {_what(jobs[0])}")
    return str(jobs[0]["id"])


of_job = click.argument("job_id", metavar="[ID]", required=False, callback=_newest)


@click.command()
@click.option("--status", type=click.Choice(STATES), help="Only jobs in this state.")
@click.option("--prefab", "prefab_id", metavar="ID", help="Only jobs of this prefab.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many.")
@click.option("--user", help="For an admin: whose jobs.")
@click.option("--all-users", is_flag=True, help="For an admin: everybody's jobs.")
@arguments.from_cursor
@arguments.as_json
def list_(
    status: str | None,
    prefab_id: str | None,
    limit: int,
    user: str | None,
    all_users: bool,
    cursor: str | None,
    is_json: bool,
) -> None:
    """List jobs, newest first."""
    if all_users and user is not None:
        raise click.UsageError("--all-users and --user cannot both be given: take one of them.")
    query = {"status": status, "prefab_id": prefab_id, "limit": limit, "user": user, "all_users": all_users or None}
    answer = http.ask("GET", "/v1/jobs", query={**query, "cursor": cursor})
    if is_json:
        terminal.document(answer)
        return
    rows = [
        (j["id"], j["status"], j["user"], _what(j), terminal.moment(j["created_at"], is_brief=True), _took(j))
        for j in answer["jobs"]
    ]
    is_narrowed = any((status, prefab_id, user))
    empty = "There is no such job." if is_narrowed else "Nothing has run yet. Run something with: gateway run"
    at = terminal.timed("at") if terminal.is_shown() else "created"  # a short head leaves room for the time
    columns = ("job", "status", "user", "function", at, "took")
    terminal.table(columns, rows, empty=empty, optional=("took", at, "user") if all_users else ("user", "took", at))
    terminal.say_more(answer["next_cursor"])


@click.command()
@of_job
@arguments.as_json
def show(job_id: str, is_json: bool) -> None:
    """Show a job with its result or error; without ID your newest."""
    job = _find(job_id)
    if is_json:
        terminal.document(job)
        return
    attempts = f"  attempt {job['attempt']}" if job["attempt"] > 1 else ""
    terminal.data(f"{job['id']}  {job['status']}  {_what(job)}  {_took(job)}{attempts}")
    for child in job.get("children") or ():
        terminal.data(f"  {child['id']}  {child['status']}  {_what(child)}  {_took(child)}")
    if job.get("error"):
        terminal.data(f"{job['error'].get('error_code')}: {results.told_error(job['error'])}")
    if (result := job.get("result")) is not None:
        terminal.document(results.value_of(result))
        for key, urls in (result.get("files") or {}).items() if isinstance(result, dict) else ():
            for url in urls:
                terminal.say(f"file {key}: {url}")
    if job["status"] in FAILED:
        terminal.say(f"What it printed: gateway job logs {job_id}")


@click.command()
@of_job
@click.option("-f", "--follow", "is_followed", is_flag=True, help="Go on until the job ends, line by line.")
def logs(job_id: str, is_followed: bool) -> None:
    """Show what a job printed; without ID your newest."""
    if is_followed:
        _follow(job_id)
        return
    with http.stream("GET", f"{_place(job_id)}/logs") as response:
        for text in response.iter_text():
            terminal.data(text, end="")


@click.command()
@click.argument("job_id", metavar="ID")
def cancel(job_id: str) -> None:
    """Stop a job. One that has ended stays as it is."""
    answer = http.ask("POST", f"{_place(job_id)}/cancel")
    terminal.say(f"{job_id}: {answer['status']}")


@click.command()
@of_job
@click.option("--timeout", type=arguments.DURATION, default="20m", show_default=True, help="How long to wait.")
@arguments.as_json
def wait(job_id: str, timeout: float, is_json: bool) -> None:
    """Wait until a job has ended; without ID your newest. Fails if it did not succeed."""
    ends = time.monotonic() + timeout
    job, absence = _find(job_id, timeout=timeout), Absence(math.inf)
    with terminal.busy(job_id):
        while job["status"] in UNFINISHED:
            left = ends - time.monotonic()
            if left <= 0:
                raise Failure(f"{job_id} is still {job['status']} after {timeout:g} s.", Code.TIMEOUT)
            with absence.borne():
                job = _find(job_id, wait=min(LONGEST_LOOK, left), timeout=left)
    if is_json:
        terminal.document(job)
    else:
        terminal.data(job["status"])
    if job["status"] != "succeeded":
        message = f"{job_id} {job['status']}. {results.told_error(job.get('error') or {})}".strip()
        if job["status"] in FAILED:
            message += f"\nWhat it printed: gateway job logs {job_id}"
        raise Failure(message, Code.TIMEOUT if job["status"] == "timed_out" else Code.FAILED)
    if not is_json:
        terminal.say(f"Its result: gateway job show {job_id}")


@click.command()
@of_job
@click.option("--after", type=click.IntRange(0), default=0, metavar="N", help="Begin behind the event with this id.")
@click.option("--json", "is_json", is_flag=True, help="Print one event a line, with its id.")
def events(job_id: str, after: int, is_json: bool) -> None:
    """Show what a job says, from its beginning, until it ends; without ID your newest.

    A cut connection is made anew.
    """
    http.api_key()  # what is wrong with it is told before anything is loaded
    from gateway_server.cli.calling import Manner, client, show_events

    caller = client()
    manner = Manner(is_stream=True, is_json=is_json)
    try:
        show_events(caller, caller.job(job_id).events(after=after), manner, lambda: job_id)
    except KeyboardInterrupt:
        raise Failure(f"{job_id} goes on. Stop it with: gateway job cancel {job_id}", Code.INTERRUPTED) from None


def _follow(job_id: str) -> None:
    """Shows whole lines as they come, at the end the rest; of a batch, all at the end."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    seen, attempt, pause = 0, None, FOLLOW_PAUSES[0]
    for job, log in _looks(job_id):
        is_over = job["status"] not in UNFINISHED
        if len(log) < seen and (job["attempt"] != attempt or job["status"] in WAITING):
            seen = 0  # what an attempt printed is gone with the gateway that was killed
        attempt = job["attempt"]
        new, total = unseen(log, seen)
        # A line that has only begun may hold the beginning of a secret, which is masked when it is whole. The log of a
        # batch has the calls in their order, not in that of their ends.
        whole = 0 if job["prefab_id"] is None else new.rfind(b"\n") + 1
        shown = new if is_over else new[:whole]
        seen = total - (len(new) - len(shown))
        terminal.data(decoder.decode(shown, final=is_over), end="")
        if is_over:
            return
        time.sleep(pause)
        pause = FOLLOW_PAUSES[0] if shown else min(pause * 1.5, FOLLOW_PAUSES[1])


def _looks(job_id: str) -> Iterator[tuple[dict[str, Any], bytes]]:
    """A job and its log, which is whole if the job is over, again and again."""
    _find(job_id)  # a gateway that has never been there is not waited for
    absence = Absence()
    while True:
        with absence.borne():
            job = _find(job_id)
            with http.stream("GET", f"{_place(job_id)}/logs") as response:
                log = response.read()
            yield job, log


def unseen(log: bytes, seen: int) -> tuple[bytes, int]:
    """What a log has beyond the first `seen` bytes that were printed, and how many were printed in all.

    The middle of a long log is left out by the gateway; where that is a loss to the reader, it is said.
    """
    gap = _LEFT_OUT.search(log)
    if gap is None:
        return log[seen:], max(seen, len(log))
    total = len(log) - len(gap[0]) + int(gap[1])
    tail = log[gap.end() :]
    lost = total - len(tail) - seen
    if seen < gap.start():
        return log[seen:], total
    if lost > 0:
        return f"\n--- {lost} bytes left out ---\n".encode() + tail, total
    return tail[-lost:], max(seen, total)


def _place(job_id: str) -> str:
    return f"/v1/jobs/{http.segment(job_id)}"


def _find(job_id: str, *, wait: float = 0.0, timeout: float = http.TIMEOUT) -> dict[str, Any]:
    query = {"wait": round(wait, 3)} if wait else None
    return dict(http.ask("GET", _place(job_id), query=query, timeout=min(timeout + MARGIN, http.TIMEOUT)))


def _what(job: dict[str, Any]) -> str:
    if job.get("prefab_id") is None:
        return "batch" if job.get("parent_id") is None else "unreadable call"
    return f"{job['prefab_id']}@{job['version']} {job['function_name']}"


def _took(job: dict[str, Any]) -> str:
    if not (job.get("started_at") and job.get("ended_at")):
        return ""
    start, end = datetime.fromisoformat(job["started_at"]), datetime.fromisoformat(job["ended_at"])
    return f"{(end - start).total_seconds():.3f} s"
