"""`gateway agent`: agents that the gateway knows."""

from typing import Any

import click

from gateway_server.cli import arguments, completing, http, terminal
from gateway_server.cli.arguments import DURATION


class OrNone(click.ParamType[Any]):
    """Another type, or the word none."""

    def __init__(self, inner: click.ParamType[Any]) -> None:
        self.inner = inner
        self.name = f"{inner.name} | none"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """`none` stays a word, so that it differs from what was not given."""
        return value if value == "none" else self.inner.convert(value, param, ctx)


@click.command()
@click.argument("agent_id", metavar="ID", shell_complete=completing.agents)
@click.argument("url", required=False, metavar="[URL]")
@click.option("--timeout", type=OrNone(DURATION), metavar="DURATION", help="How long an exchange may take; or none.")
@click.option("--health-path", metavar="PATH", help="What answers with 2xx while the agent is well; or none.")
@click.option("--no-check", is_flag=True, help="Do not ask first whether anything answers there.")
def add(agent_id: str, url: str | None, timeout: Any, health_path: str | None, no_check: bool) -> None:
    """Register an agent that runs at URL. Of one that is registered, change what is given; the rest stays.

    \b
    gateway agent add my-agent http://127.0.0.1:8080 --health-path /health --timeout 90s
    """
    http.segment(agent_id)  # which it is called by
    given = {"url": url, "timeout": timeout, "health_path": health_path}
    wish = {name: None if value == "none" else value for name, value in given.items() if value is not None}
    agent = http.ask("POST", "/v1/agents", {"id": agent_id, **wish, "check": not no_check})
    terminal.data(agent["id"])
    terminal.say(f"Call it with: gateway agent call {agent['id']} PATH")


@click.command()
@arguments.as_json
def list_(is_json: bool) -> None:
    """List the agents, and whether they answer."""
    answer = http.ask("GET", "/v1/agents")
    if is_json:
        terminal.document(answer)
        return
    rows = [
        (a["id"], a["health"]["status"], a["url"], a["owner"], terminal.moment(a["created_at"]))
        for a in answer["agents"]
    ]
    empty = "There is no agent. Write one with `gateway init --agent NAME`, or register one: gateway agent add ID URL"
    added = terminal.timed("added")
    terminal.table(("agent", "health", "url", "owner", added), rows, empty=empty, optional=(added, "owner"))


@click.command()
@click.argument("agent_id", metavar="ID", shell_complete=completing.agents)
@arguments.as_json
def show(agent_id: str, is_json: bool) -> None:
    """Show an agent, and ask it how it is."""
    agent = http.ask("GET", f"/v1/agents/{http.segment(agent_id)}")
    if is_json:
        terminal.document(agent)
        return
    health = agent["health"]
    latency = "" if health["latency_ms"] is None else f" in {health['latency_ms']:g} ms"
    terminal.data(f"{agent['id']}  {health['status']}  {health['message']}{latency}")
    told = {
        "url": agent["url"],
        "health path": agent["health_path"],
        "timeout": agent["timeout"] and f"{agent['timeout']:g} s",
        "owner": agent["owner"],
        "added": terminal.moment_in_words(agent["created_at"]),
    }
    for name, value in told.items():
        if value is not None:
            terminal.data(f"  {name}: {value}")


@click.command()
@click.argument("agent_id", metavar="ID", shell_complete=completing.agents)
def remove(agent_id: str) -> None:
    """Forget an agent."""
    http.ask("DELETE", f"/v1/agents/{http.segment(agent_id)}")
    terminal.say(f"Removed {agent_id}.")
