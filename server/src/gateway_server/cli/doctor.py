"""`gateway doctor`: what this machine offers, and whether its gateway can be used."""

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from gateway_server import __version__
from gateway_server.cli import arguments, http, terminal
from gateway_server.cli.failures import SERVE_DATA, Failure

GOOD, WEAK, NONE, BAD = "ok", "weak", "none", "bad"
PATIENCE = 5.0
"""Seconds for a gateway to answer."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: str
    """ok, weak (it works, with less), none (it is not there, and need not be) or bad (nothing works without)."""
    text: str


@click.command()
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=SERVE_DATA,
    show_default=True,
    help="The data folder that a gateway would use.",
)
@arguments.as_json
def doctor(data: Path, is_json: bool) -> None:
    """Say what this machine offers, what protects its prefabs from one another, and whether a gateway can be used.

    Fails if something is missing that a gateway cannot do without.
    """
    with terminal.busy("Examining"):
        from gateway_server.cli import examining

        findings = [*examining.examine(data), *_gateway()]
    is_well = all(finding.state != BAD for finding in findings)
    if is_json:
        terminal.document({"ok": is_well, "version": __version__, "findings": [asdict(found) for found in findings]})
    else:
        terminal.table(("state", "what", "found"), [(found.state, found.name, found.text) for found in findings])
    if not is_well:
        bad = ", ".join(finding.name for finding in findings if finding.state == BAD)
        raise Failure(f"A gateway cannot run here: {bad}.")


def _gateway() -> Iterator[Finding]:
    """The gateway that the commands speak to: whether it answers, is of this release, and takes the key."""
    try:
        version = str(http.ask("GET", "/health", timeout=PATIENCE).get("version"))
    except Failure as failure:
        yield Finding("gateway", NONE if failure.detail["error_code"] == "CONNECTION_FAILED" else WEAK, failure.message)
        return
    same = version == __version__
    told = f"{version} at {http.base_url()}" + ("" if same else f"; this command line is of {__version__}")
    yield Finding("gateway", GOOD if same else WEAK, told)
    try:
        user = http.ask("GET", "/v1/quotas", timeout=PATIENCE)["user"]
    except Failure as failure:
        is_named = bool(os.environ.get("GATEWAY_API_KEY", "").strip())
        yield Finding("API key", WEAK if is_named else NONE, failure.message)
    else:
        yield Finding("API key", GOOD, f"you are {user}" if http.api_key() else f"none needed: you are {user}")
