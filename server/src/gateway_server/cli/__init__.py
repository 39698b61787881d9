"""The command `gateway`."""

import sys

INTERRUPTED = 130


def main() -> None:
    """Runs the command line. Ctrl-C ends it without a traceback from its first import on."""
    try:
        from gateway_server.cli.commands import main

        main()
    except KeyboardInterrupt:
        if sys.stderr is not None:  # else it would go to standard output
            print("Interrupted.", file=sys.stderr)  # noqa: T201  nothing else may be there yet
        sys.exit(INTERRUPTED)
