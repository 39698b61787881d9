"""`gateway prefab publish|list|search|show|deprecate|yank|rm|env`: the catalogue of a gateway."""

import json
import tempfile
from pathlib import Path
from typing import Any

import click

from gateway_server.cli import arguments, describing, http, samples, terminal, unpublished
from gateway_server.cli.failures import Failure, refused
from gateway_server.cli.package import hint
from gateway_server.prefabs.folders import left_out, pack_folder
from gateway_server.prefabs.functions import Function, read_function
from gateway_server.prefabs.problems import PackageError, Report

PUBLISH_TIMEOUT = 1500.0
PARTS = "its manifest, pyproject.toml, README and what lies below src/"


@click.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--env", "settings", multiple=True, metavar="NAME=VALUE", help="A setting that the code sees at import.")
@arguments.as_json
def publish(path: Path, settings: tuple[str, ...], is_json: bool) -> None:
    """Publish the folder or wheel at PATH. Standard output gets ID@VERSION.

    \b
    gateway prefab publish . --env MODEL=small
    """
    given = arguments.assignments(settings, "--env")
    with tempfile.TemporaryFile() as archive:
        if path.is_dir():
            try:
                pack_folder(path, archive)
            except PackageError as error:
                raise Failure(f"The package was refused: {error}{hint(path)}") from error
            if extra := left_out(path):
                terminal.say(f"Left out, as a package is {PARTS}: {', '.join(extra)}")
            archive.seek(0)
            prefab = _publish(f"{path.resolve().name}.tar.gz", archive, given)
        else:
            with path.open("rb") as file:
                prefab = _publish(path.name, file, given)
    for warning in prefab["warnings"]:
        terminal.say(f"warning: {warning['pointer']}: {warning['message']}")
    if is_json:
        terminal.document(prefab)
    else:
        terminal.data(f"{prefab['id']}@{prefab['version']}")
    if prefab["functions"]:
        terminal.say(f"Run it with: {_sample(prefab['id'], prefab['version'])}")


def _sample(prefab_id: str, version: str) -> str:
    """A command that runs the first function, with values for what it needs."""
    spec = http.ask("GET", f"{_place((prefab_id, version))}/spec")
    function = next(function for function in _functions(spec) if function.disabled is None)
    return samples.command(prefab_id, version, function)


def _publish(name: str, archive: Any, settings: dict[str, str]) -> dict[str, Any]:
    form = {"settings": json.dumps(settings)} if settings else {}
    headers = {"accept": "text/event-stream"}
    files = {"file": (name, archive, "application/octet-stream")}
    with http.stream(
        "POST", "/v1/prefabs", files=files, data=form, headers=headers, timeout=PUBLISH_TIMEOUT
    ) as response:
        for event in http.events(response):
            if event["type"] == "progress":
                terminal.say(event["data"])
            elif event["type"] == "error":
                raise refused(422, event.get("detail") or {"message": event["data"]})
            else:
                return dict(event["data"])
    raise Failure("The gateway broke off while it published. Publish again.")


@click.command()
@click.option("--status", type=click.Choice(["building", "deployed", "failed"]), help="Only these.")
@arguments.as_json
def list_(status: str | None, is_json: bool) -> None:
    """List the versions that are published, newest first."""
    answer = http.ask("GET", "/v1/prefabs", query={"status": status})
    if is_json:
        terminal.document(answer)
        return
    rows = [
        (
            f"{prefab['id']}@{prefab['version']}",
            _status(prefab),
            prefab["owner"],
            terminal.moment(prefab["created_at"]),
            prefab["error"] or ", ".join(prefab["functions"]),
        )
        for prefab in answer["prefabs"]
    ]
    empty = f"Nothing is {status or 'published'}. Write a prefab with `gateway init NAME`: gateway prefab publish NAME"
    published = terminal.timed("published")
    terminal.table(
        ("prefab", "status", "owner", published, "functions"), rows, empty=empty, optional=("owner", published)
    )


def _status(prefab: dict[str, Any]) -> str:
    marks = [name for name in ("deprecated", "yanked") if prefab.get(name) is not None]
    return ", ".join([prefab["status"], *marks])


@click.command()
@click.argument("words", nargs=-1, required=True)
@arguments.as_json
def search(words: tuple[str, ...], is_json: bool) -> None:
    """Find prefabs that hold all WORDS: in id, name, tags, functions or descriptions. Shows the newest versions.

    \b
    gateway prefab search pdf text
    """
    answer = http.ask("GET", "/v1/prefabs", query={"q": " ".join(words)})
    if is_json:
        terminal.document(answer)
        return
    if not answer["prefabs"]:
        terminal.say("Nothing holds all of these words. All that there is: gateway prefab list")
        return
    rows = [(f"{p['id']}@{p['version']}", ", ".join(p["functions"]), p["description"]) for p in answer["prefabs"]]
    terminal.table(("prefab", "functions", "description"), rows, flowing=("functions", "description"))


@click.command()
@click.argument("prefab", type=arguments.VERSION, metavar="ID@VERSION")
@arguments.as_json
def show(prefab: tuple[str, str], is_json: bool) -> None:
    """Show a version with its functions."""
    with unpublished.explained(prefab):
        spec = http.ask("GET", f"{_place(prefab)}/spec")
    if is_json:
        terminal.document(spec)
        return
    terminal.data(f"{spec['id']}@{spec['version']}  {spec['name']}")
    for mark in ("deprecated", "yanked"):
        if spec.get(mark) is not None:
            terminal.data(f"{mark}: {spec[mark]}")
    if spec["description"]:
        terminal.paragraph(spec["description"])
    for function in _functions(spec):
        _show_function(function, samples.command(spec["id"], spec["version"], function))


def _show_function(function: Function, sample: str) -> None:
    terminal.data(f"\n{describing.head(function)}")
    if function.description:
        terminal.paragraph(function.description, indent=4)
    if function.disabled is not None:
        terminal.paragraph(f"It cannot be called: {function.disabled}", indent=4)
        return
    for part in describing.parts(function):
        terminal.paragraph(part, indent=4, hang=4)
    terminal.data(f"    {sample}")


def _functions(spec: dict[str, Any]) -> list[Function]:
    found = (read_function(raw, "", Report()) for raw in spec["functions"])
    return [function for function in found if function is not None]


@click.command()
@click.argument("prefab", type=arguments.VERSION, metavar="ID@VERSION")
def remove(prefab: tuple[str, str]) -> None:
    """Remove a version from the catalogue. Whoever calls it gets an error then; to warn them first, yank it."""
    http.ask("DELETE", _place(prefab))
    terminal.say(f"Removed {prefab[0]}@{prefab[1]}.")


@click.command()
@click.argument("prefab", type=arguments.VERSION, metavar="ID@VERSION")
@click.argument("message", required=False)
@click.option("--undo", is_flag=True, help="Take it back.")
def deprecate(prefab: tuple[str, str], message: str | None, undo: bool) -> None:
    """Warn whoever calls a version; MESSAGE says what to use instead.

    \b
    gateway prefab deprecate echo@1.0.0 "use 1.1.0"
    """
    _mark(prefab, "deprecated", message, undo)


@click.command()
@click.argument("prefab", type=arguments.VERSION, metavar="ID@VERSION")
@click.argument("reason", required=False)
@click.option("--undo", is_flag=True, help="Take it back.")
def yank(prefab: tuple[str, str], reason: str | None, undo: bool) -> None:
    """Keep new callers from a version: latest passes it over. Whoever names it still gets it, with a warning.

    \b
    gateway prefab yank echo@1.0.0 "loses the last line"
    """
    _mark(prefab, "yanked", reason, undo)


def _mark(prefab: tuple[str, str], mark: str, why: str | None, undo: bool) -> None:
    if (why is None) != undo:
        raise click.UsageError("Say why, or --undo to take it back.")
    http.ask("PATCH", _place(prefab), {mark: why})
    terminal.say(f"{prefab[0]}@{prefab[1]} is {'no longer ' if undo else ''}{mark}.")


@click.command()
@click.argument("prefab", type=arguments.VERSION, metavar="ID@VERSION")
@click.argument("settings", nargs=-1, metavar="[NAME=VALUE]…")
@click.option("--unset", multiple=True, metavar="NAME", help="Take a setting away.")
def set_env(prefab: tuple[str, str], settings: tuple[str, ...], unset: tuple[str, ...]) -> None:
    """Set or unset some settings of a version; the others stay. New calls see them."""
    changes: dict[str, str | None] = {**arguments.assignments(settings, "NAME=VALUE"), **dict.fromkeys(unset)}
    if not changes:
        raise click.UsageError("Give at least one NAME=VALUE or --unset NAME.")
    answer = http.ask("PATCH", f"{_place(prefab)}/settings", changes)
    terminal.say(f"Settings of {prefab[0]}@{prefab[1]}: {', '.join(answer['names']) or 'none'}")


@click.command()
@click.argument("prefab", type=arguments.VERSION, metavar="ID@VERSION")
@arguments.as_json
def list_env(prefab: tuple[str, str], is_json: bool) -> None:
    """List the names of the settings; their values are not told."""
    answer = http.ask("GET", f"{_place(prefab)}/settings")
    if is_json:
        terminal.document(answer)
    for name in [] if is_json else answer["names"]:
        terminal.data(name)


def _place(prefab: tuple[str, str]) -> str:
    return f"/v1/prefabs/{http.segment(prefab[0])}/{http.segment(prefab[1])}"
