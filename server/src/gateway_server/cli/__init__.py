"""The command `gateway`."""

from gateway_server.cli.commands import main

__all__ = ["main"]
