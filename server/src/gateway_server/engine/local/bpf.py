"""Little programs for the kernel: how they are put together, loaded, and tied to every process of the machine.

They are held by links, which end with the process that has them open: nothing is left behind, however it ends.
"""

import ctypes
import os
import struct

Steps = bytes
"""Instructions, 8 bytes each. Registers are numbers from 0 to 10; half of one is its lower 32 bits."""
STEP = 8

_CALL = {"x86_64": 321, "aarch64": 280}
_PROG_LOAD, _LINK_CREATE, _LINK_UPDATE = 5, 28, 29
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432  # the same on every architecture
_CLOEXEC, _CREATE = 1, 6
_LICENSE = b"Apache-2.0"

_libc = ctypes.CDLL(None, use_errno=True)


def step(code: int, to: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> Steps:
    """One instruction; `value` of 32 bits, with or without a sign."""
    return struct.pack("<BBhI", code, to | source << 4, offset, value & 0xFFFFFFFF)


def load(to: int, pointer: int, offset: int) -> Steps:
    """A word of 32 bits at an offset of what a register points at."""
    return step(0x61, to, pointer, offset)


def copy(to: int, source: int) -> Steps:
    """A whole register."""
    return step(0xBF, to, source)


def copy_half(to: int, source: int) -> Steps:
    """Half of a register; the upper half becomes 0, as it does by everything on halves."""
    return step(0xBC, to, source)


def put(to: int, value: int) -> Steps:
    """A number of 32 bits."""
    return step(0xB4, to, value=value)


def put_whole(to: int, value: int) -> Steps:
    """A number of 64 bits."""
    return step(0x18, to, value=value) + step(0, value=value >> 32)


def subtract(register: int, value: int) -> Steps:
    """From a half."""
    return step(0x14, register, value=value)


def mask(register: int, bits: int) -> Steps:
    """Keeps these bits of a half."""
    return step(0x54, register, value=bits)


def from_network(register: int, size: int) -> Steps:
    """Makes a number to count with out of one of 16 or 32 bits as it stands in a packet."""
    return step(0xDC, register, value=size)


def call(helper: int) -> Steps:
    """One of the kernel's functions: its answer is in register 0; what was in 1 to 5 is lost."""
    return step(0x85, value=helper)


def verdict(*, is_allowed: bool) -> Steps:
    """The end."""
    return put(0, int(is_allowed)) + step(0x95)


def if_equal(half: int, value: int, then: Steps) -> Steps:
    """Does `then` if a half has a value."""
    return step(0x56, half, offset=len(then) // STEP, value=value) + then


def if_at_least(half: int, value: int, then: Steps) -> Steps:
    """Does `then` if a half, without a sign, is not less than a value."""
    return step(0xA6, half, offset=len(then) // STEP, value=value) + then


def if_other(one: int, other: int, then: Steps) -> Steps:
    """Does `then` if two whole registers differ."""
    return step(0x1D, one, other, len(then) // STEP) + then


def load_program(kind: int, attach_type: int, steps: Steps) -> int:
    """Has the kernel check a program; a descriptor of it.

    Raises:
        OSError: it may not be loaded here, or the kernel does not take it.
    """
    code, terms = (ctypes.create_string_buffer(text) for text in (steps, _LICENSE))
    places = ctypes.addressof(code), ctypes.addressof(terms)
    attributes = struct.pack("=IIQQ40xII", kind, len(steps) // STEP, *places, 0, attach_type)
    return _bpf(_PROG_LOAD, attributes, "load a program into the kernel")


def attach(program: int, cgroup: int, attach_type: int) -> int:
    """Ties a program to all processes below a cgroup; the descriptor that holds it there.

    Raises:
        OSError: the kernel refuses.
    """
    return _bpf(_LINK_CREATE, struct.pack("=IIIII", program, cgroup, attach_type, 0, 0), "attach a program")


def exchange(link: int, program: int) -> None:
    """Puts another program in the place of the one that a link holds, without a moment between them.

    Raises:
        OSError: the kernel refuses.
    """
    _bpf(_LINK_UPDATE, struct.pack("=IIII", link, program, 0, 0), "exchange a program")


def open_cgroups() -> int:
    """The root of the cgroup tree, which all processes of this machine or container are below; mounted or not.

    Raises:
        OSError: the kernel has none, or shows it to nobody here.
    """
    tree = _call(_FSOPEN, b"cgroup2", _CLOEXEC, doing="open the tree of cgroups")
    try:
        _call(_FSCONFIG, tree, _CREATE, None, None, 0, doing="open the tree of cgroups")
        return _call(_FSMOUNT, tree, _CLOEXEC, 0, doing="open the tree of cgroups")
    finally:
        os.close(tree)


def _bpf(command: int, attributes: bytes, doing: str) -> int:
    machine = os.uname().machine
    if machine not in _CALL:
        raise OSError(f"cannot {doing}: the numbers of the calls on {machine} are not known")
    return _call(_CALL[machine], command, attributes, len(attributes), doing=doing)


def _call(number: int, *arguments: int | bytes | None, doing: str) -> int:
    words = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    result = int(_libc.syscall(ctypes.c_long(number), *words))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"cannot {doing}: {os.strerror(error)}")
    return result
