"""Short functions, and what may run before them at the same worker."""

import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path


def echo(text: str):
    return text


def notes(path: str, text: str, seconds: float = 0.0):
    """Adds a line to a file outside, so that each run is seen."""
    with open(path, "a") as file:
        file.write(f"{text}\n")
    time.sleep(seconds)
    return text


def sleeps(seconds: float):
    time.sleep(seconds)
    return seconds


def dies(path: str = "", text: str = ""):
    if path:
        notes(path, text)
    os._exit(3)


def says(text: str, seconds: float = 0.0):
    print(text)
    time.sleep(seconds)
    os.write(2, b"and " + text.encode() + b"\n")
    return text


def leaves():
    threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
    return "left"


def writes(name: str = "x"):
    Path("data/outputs", name).write_text(name)
    return name


def large(text: str, size: int):
    return text * size


def measures(text: str):
    """The beginning of the text, and how often it is repeated."""
    return [text[:3], len(text) // 3]


def listing():
    return os.listdir("data/outputs")


def steals(seconds: float):
    """Takes the next order out of its worker's queue, and prints."""
    for descriptor in range(3, 100):
        with suppress(OSError):
            found = socket.socket(fileno=os.dup(descriptor))
            if found.type == socket.SOCK_SEQPACKET:
                found.recv(1 << 16)
                break
    print("stolen", flush=True)
    time.sleep(seconds)
    return "stolen"
