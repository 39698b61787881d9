"""`gateway completion`: what makes a shell complete commands, options, and the names of what is published."""

import sys

import click
from click.shell_completion import get_completion_class

from gateway_server.cli import terminal

VARIABLE = "_GATEWAY_COMPLETE"
_INTO = {
    "bash": ('eval "$(gateway completion bash)"', "~/.bashrc"),
    "zsh": ('eval "$(gateway completion zsh)"', "~/.zshrc, after compinit"),
    "fish": ("gateway completion fish | source", "~/.config/fish/config.fish"),
}
_WORDS = "COMP_WORDBREAKS=${COMP_WORDBREAKS//@}  # ID@VERSION is one word\n"


@click.command()
@click.argument("shell", type=click.Choice(list(_INTO)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes a shell complete gateway's commands, options, and the names of what is published.

    \b
    echo 'eval "$(gateway completion bash)"' >> ~/.bashrc
    """
    found = get_completion_class(shell)
    assert found is not None
    script = found(context.find_root().command, {}, "gateway", VARIABLE).source()
    line, file = _INTO[shell]
    terminal.data(f"# To have it in every shell, put this line into {file}:  {line}")
    terminal.data((_WORDS if shell == "bash" else "") + script.strip())
    if sys.stdout.isatty():
        terminal.say(f"\nPut this line into {file}:\n\n  {line}")
