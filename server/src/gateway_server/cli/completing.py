"""What a shell offers for a word that somebody has begun: names that the gateway knows, or nothing."""

from typing import Any

import click
from click.shell_completion import CompletionItem

from gateway_server.cli import http
from gateway_server.cli.failures import Failure

PATIENCE = 0.3
"""Seconds after which a person at a shell has gone on typing."""


def prefabs(begun: str) -> list[CompletionItem]:
    """ID@VERSION of what is published."""
    found = _ask("/v1/prefabs").get("prefabs", [])
    return _beginning(begun, ((f"{prefab['id']}@{prefab['version']}", prefab["name"]) for prefab in found))


def functions(context: click.Context, _: click.Parameter, begun: str) -> list[CompletionItem]:
    """The functions of the version that stands before."""
    given = context.params.get("prefab")
    if not isinstance(given, tuple):
        return []
    spec = _ask(f"/v1/prefabs/{http.segment(given[0])}/{http.segment(given[1])}/spec")
    return _beginning(begun, ((item["name"], item.get("description")) for item in spec.get("functions", [])))


def agents(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
    """The ids of the agents."""
    return _beginning(begun, ((agent["id"], agent["url"]) for agent in _ask("/v1/agents").get("agents", [])))


def _ask(path: str) -> dict[str, Any]:
    try:
        return dict(http.ask("GET", path, timeout=PATIENCE))
    except Failure:  # nobody has asked to hear of it
        return {}


def _beginning(begun: str, found: Any) -> list[CompletionItem]:
    return [CompletionItem(name, help=about) for name, about in found if name.startswith(begun)]
