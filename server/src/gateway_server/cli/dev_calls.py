"""The calls in `gateway dev`: what each printed, and how it ended."""

from gateway_server.calls.outcomes import Outcome
from gateway_server.calls.preparation import Ready
from gateway_server.calls.running import Running
from gateway_server.cli import terminal


def show(ready: Ready, call: Running, outcome: Outcome) -> None:
    """Tells of an attempt that is over, whoever made it."""
    name = f"{ready.version.prefab_id} {ready.call.function_name}"
    for line in call.log.read(call.masker).decode("utf-8", "replace").splitlines():
        terminal.say(f"{name} | {line}")
    why = "" if outcome.result is not None else f": {outcome.told_error().get('message', '')}"
    terminal.say(f"{name} {outcome.status} in {call.ran():.3f} s{why}")
