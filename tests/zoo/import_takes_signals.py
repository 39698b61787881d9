"""Takes over the signals at import, as event loops do."""

import os
import signal

signal.set_wakeup_fd(-1)
signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def exits():
    os._exit(3)
