"""`gateway init`: a prefab or an agent to begin with."""

import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

import click

from gateway_server.cli import terminal
from gateway_server.cli.failures import Failure

_ID = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*\Z")
SUFFIX = ".template"
_PREFAB_STEPS = """\
Try it:      gateway prefab run {path} greet -p name=you
Work on it:  gateway dev {path}
Publish it:  gateway prefab publish {path}"""
_AGENT_STEPS = """\
Write the prefab that it calls:  gateway init hello
Run both:                        gateway dev hello {path}
Call it, in another terminal:    gateway agent call {name} /greet -d '{{}}'"""


@click.command()
@click.argument("path", metavar="NAME", type=click.Path(file_okay=False, path_type=Path))
@click.option("--agent", "is_agent", is_flag=True, help="Write an agent (FastAPI) instead of a prefab.")
def init(path: Path, is_agent: bool) -> None:
    """Write a prefab to begin with, which publishes and runs as it is, into the new folder NAME.

    With --agent it is an agent: a web application that calls a prefab.
    """
    name, kind = path.name, "agent" if is_agent else "prefab"
    if not (3 <= len(name) <= 64 and _ID.match(name)):
        message = (
            f"{name!r} cannot be the id of {'an' if is_agent else 'a'} {kind}: "
            "3 to 64 characters, lower-case words joined by single hyphens"
        )
        raise click.BadParameter(message, param_hint="NAME")
    if path.exists() and any(path.iterdir()):
        raise Failure(f"{path} is there already and not empty.")
    title = name.replace("-", " ").capitalize()
    _write(files("gateway_server.cli") / "templates" / kind, path, {"id": name, "title": title})
    terminal.data(str(path))
    terminal.say((_AGENT_STEPS if is_agent else _PREFAB_STEPS).format(path=path, name=name))


def _write(template: Traversable, folder: Path, words: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for item in template.iterdir():
        if item.is_dir():
            _write(item, folder / item.name, words)
        elif item.name.endswith(SUFFIX):
            text = Template(item.read_text(encoding="utf-8")).substitute(words)
            (folder / item.name.removesuffix(SUFFIX)).write_text(text, encoding="utf-8")
