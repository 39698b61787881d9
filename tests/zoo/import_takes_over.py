"""At import it takes the place of the process that starts and ends its functions, in the way that a setting says."""

import json
import os
import signal
import threading
import time

import gateway_runtime.zygote as zygote

WAY = os.environ.get("TAKES_OVER", "")
_Zygote = zygote._Zygote
_fork, _obey = _Zygote._fork, _Zygote._obey


def _spin():
    while True:
        pass


def _fork_and_spin(self, number, *descriptors):
    _fork(self, number, *descriptors)
    threading.Thread(target=_spin, daemon=True).start()


def _fork_and_tell(self, number, *descriptors):
    _fork(self, number, *descriptors)
    self._tell(json.loads(WAY) if WAY.startswith("{") else {WAY: {"what": [number]}})


def _stop_at_kill(self, number):
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(3600)


if WAY == "lies":
    _Zygote._kill = lambda self, number: None
elif WAY == "deaf":
    _Zygote._kill = lambda self, number: time.sleep(3600)
elif WAY == "spins":
    _Zygote._fork = _fork_and_spin
elif WAY == "late":
    _Zygote._lock_down = lambda self, number: time.sleep(3600)
elif WAY == "raises":
    raise ValueError({"not": "a text"})
elif WAY:
    _Zygote._fork = _fork_and_tell


def hangs():
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(3600)


def answers():
    return "answered"
