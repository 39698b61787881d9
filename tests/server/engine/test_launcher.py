"""The end of the launcher, which is the end of all that it has started."""

import json
import os
import select
import socket
import subprocess
import sys
from pathlib import Path

import gateway_runtime
import gateway_server

LAUNCHER = Path(gateway_server.__file__).parent / "engine" / "local" / "launcher.py"  # a program, not to be imported
MOVED = "import os,sys; os.dup2(int(sys.argv[1]),3); os.execv(sys.executable,[sys.executable,*sys.argv[2:]])"
ORDER = {"start": 1, "isolation": "none", "interpreter": "/no/such/program", "arguments": [], "environment": {}}


def test_it_ends_quietly_when_the_gateway_has_not_read_all_that_it_was_told():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    support = Path(gateway_runtime.__file__).parents[1]
    words = ["-I", "-S", "-c", MOVED, str(theirs.fileno()), "-I", "-S", str(LAUNCHER), str(support)]
    with ours, theirs, open(os.devnull, "wb") as null:
        process = subprocess.Popen([sys.executable, *words], pass_fds=[theirs.fileno()], stderr=subprocess.PIPE)
        theirs.close()
        socket.send_fds(ours, [json.dumps(ORDER).encode()], [null.fileno(), null.fileno()])
        told_something = select.poll()  # of any number of descriptors, where select knows 1024
        told_something.register(ours, select.POLLIN)
        assert told_something.poll(20_000), "the launcher says nothing"
        ours.close()
    _, told = process.communicate(timeout=20)
    assert (process.returncode, told) == (0, b"")
