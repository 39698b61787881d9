"""`gateway agent`: agents that the gateway knows."""

import json
import sys

import click

from gateway_server.cli import arguments, http, terminal
from gateway_server.cli.failures import Failure, code_of

CALL_TIMEOUT = 1200.0


@click.command()
@click.argument("agent_id", metavar="ID")
@click.argument("url")
def add(agent_id: str, url: str) -> None:
    """Register an agent, or change its address.

    \b
    gateway agent add my-agent http://127.0.0.1:8080
    """
    agent = http.ask("POST", "/v1/agents", {"id": agent_id, "url": url})
    terminal.data(agent["id"])
    terminal.say(f"Call it with: gateway agent call {agent['id']} PATH")


@click.command()
@arguments.as_json
def list_(is_json: bool) -> None:
    """List the agents."""
    answer = http.ask("GET", "/v1/agents")
    if is_json:
        terminal.document(answer)
        return
    rows = [(a["id"], a["url"], a["owner"], terminal.moment(a["created_at"])) for a in answer["agents"]]
    terminal.table(("agent", "url", "owner", "added"), rows)


@click.command()
@click.argument("agent_id", metavar="ID")
def remove(agent_id: str) -> None:
    """Forget an agent."""
    http.ask("DELETE", f"/v1/agents/{http.segment(agent_id)}")
    terminal.say(f"Removed {agent_id}.")


@click.command()
@click.argument("agent_id", metavar="ID")
@click.argument("path")
@click.option("-d", "--data", metavar="JSON", help="A body; - reads it from standard input.")
@click.option("-X", "--method", help="POST with a body, else GET.")
def call(agent_id: str, path: str, data: str | None, method: str | None) -> None:
    """Call an agent as yourself. Standard output gets what it answers, as it comes.

    \b
    gateway agent call my-agent /report -d '{"parameters": {"topic": "tides"}}'
    """
    body = _body(data)
    place = f"/v1/agents/{http.segment(agent_id)}/{path.lstrip('/')}"
    headers = {"content-type": "application/json"} if body is not None else {}
    method = method or ("GET" if body is None else "POST")
    with http.stream(method, place, content=body, headers=headers, is_passed=True, timeout=CALL_TIMEOUT) as response:
        text = ""
        for text in response.iter_text():
            terminal.data(text, end="")
        if sys.stdout.isatty() and not text.endswith("\n"):
            terminal.data("")
        if response.status_code >= 400:
            raise Failure(f"HTTP {response.status_code} from {method} {place}", code_of(response.status_code))


def _body(data: str | None) -> bytes | None:
    if data is None:
        return None
    text = sys.stdin.read() if data == "-" else data
    try:
        json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"this is no JSON ({error})", param_hint="-d") from error
    return text.encode()
