"""Functions that take more than their share: memory and disk, in every way that comes to mind."""

import mmap
import os
import signal
import time

PIECE = b"x" * (1 << 20)
kept = []


def memory_at_once(megabytes: int, seconds: float = 1):
    kept.append(bytearray(megabytes << 20))
    time.sleep(seconds)
    return megabytes


def memory_in_children(megabytes: int, seconds: float = 1):
    """Each child is small; together they are not. Ends when all have what they want."""
    read, write = os.pipe()
    for _ in range(megabytes // 8):
        if os.fork() == 0:
            block = bytearray(8 << 20)
            os.write(write, b"x")
            signal.pause()
            os._exit(len(block) % 2)
    for _ in range(megabytes // 8):
        os.read(read, 1)
    time.sleep(seconds)
    return megabytes


def memory_unmapped(megabytes: int, seconds: float = 1):
    """Memory that is in no process's map: a file that exists in memory alone."""
    file = os.memfd_create("greedy")
    for _ in range(megabytes):
        os.write(file, PIECE)
    time.sleep(seconds)
    return megabytes


def memory_shared(megabytes: int, seconds: float = 1):
    """One block that eight processes have mapped counts once."""
    block = mmap.mmap(-1, megabytes << 20)
    for at in range(0, megabytes << 20, 4096):
        block[at] = 1
    read, write = os.pipe()
    for _ in range(8):
        if os.fork() == 0:
            total = sum(block[at] for at in range(0, megabytes << 20, 4096))
            os.write(write, b"x")
            signal.pause()
            os._exit(total % 2)
    for _ in range(8):
        os.read(read, 1)
    time.sleep(seconds)
    return megabytes


def memory_reserved(gigabytes: int, seconds: float = 1):
    """Address space alone, as allocators and numeric libraries take it, costs nothing."""
    block = mmap.mmap(-1, gigabytes << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)
    block[0] = 1
    time.sleep(seconds)
    return len(block) >> 30


def disk_one_file(place: str, megabytes: int, seconds: float = 1):
    with open(os.path.join(place, "large"), "wb") as file:
        for _ in range(megabytes):
            file.write(PIECE)
    time.sleep(seconds)
    return megabytes


def disk_several_files(place: str, megabytes: int, seconds: float = 1):
    for number in range(megabytes):
        with open(os.path.join(place, f"part{number}"), "wb") as file:
            file.write(PIECE)
    time.sleep(seconds)
    return megabytes


def disk_unlinked(place: str, megabytes: int, seconds: float = 1):
    files = []
    for number in range(megabytes):
        path = os.path.join(place, f"part{number}")
        files.append(os.open(path, os.O_CREAT | os.O_WRONLY))
        os.unlink(path)
        os.write(files[-1], PIECE)
    time.sleep(seconds)
    return megabytes


def disk_mapped(megabytes: int, seconds: float = 1):
    """Unlinked and closed: nothing but the maps of the process know of it."""
    for _ in range(megabytes):
        with open("data/mapped", "w+b") as file:
            file.write(PIECE)
            file.flush()
            kept.append(mmap.mmap(file.fileno(), 1 << 20))
        os.unlink("data/mapped")
    time.sleep(seconds)
    return megabytes


def disk_hidden(megabytes: int, seconds: float = 1):
    """In a folder that its own owner may not read."""
    os.mkdir("data/hidden")
    for number in range(megabytes):
        with open(f"data/hidden/part{number}", "wb") as file:
            file.write(PIECE)
    os.chmod("data/hidden", 0)
    time.sleep(seconds)
    return megabytes


def disk_sparse(megabytes: int, seconds: float = 1, files: int = 1):
    for number in range(files):
        with open(f"data/sparse{number}", "wb") as file:
            file.truncate(megabytes << 20)
    time.sleep(seconds)
    return megabytes


def many_files(count: int, seconds: float = 1):
    for number in range(count):
        os.mkdir(f"data/outputs/{number}")
    time.sleep(seconds)
    return count


def deep_folders(count: int, seconds: float = 1):
    for _ in range(count):
        os.mkdir("d")
        os.chdir("d")
    time.sleep(seconds)
    return count


def waits(seconds: float):
    time.sleep(seconds)
    return seconds


def spins(seconds: float, processes: int):
    end = time.monotonic() + seconds
    for _ in range(processes - 1):
        if os.fork() == 0:
            break
    while time.monotonic() < end:
        pass
    return "spun"
