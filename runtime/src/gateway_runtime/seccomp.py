"""System calls that no function of a package needs, refused by the kernel for a process and all that it starts.

The filter is a classic BPF program, so that nothing beyond the standard library is used. What is refused gives EPERM,
as a kernel without the right would; clone3 gives ENOSYS, since a filter cannot see its flags and every C library falls
back to clone then. Numbers are those of <asm/unistd.h>.
"""

import ctypes
import os
import struct
import sys
from collections.abc import Iterable

from gateway_runtime import linux

# Calls from 424 on have the same number everywhere.
_NEW_MOUNT_API = (428, 429, 430, 431, 432, 433, 442, 467)
"""open_tree, move_mount, fsopen, fsconfig, fsmount, fspick, mount_setattr, open_tree_attr"""
_SAME_EVERYWHERE = (*_NEW_MOUNT_API, 425, 426, 427, 438)
"""...and io_uring_setup, io_uring_enter, io_uring_register, pidfd_getfd"""
_CLONE3 = 435
_CALLS = {
    "x86_64": {
        "arch": 0xC000003E, "socket": 41, "clone": 56, "unshare": 272, "setns": 308, "mount": 165, "umount2": 166,
        "pivot_root": 155, "chroot": 161, "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312,
        "bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "add_key": 248, "request_key": 249, "keyctl": 250,
        "open_by_handle_at": 304, "init_module": 175, "delete_module": 176, "finit_module": 313, "kexec_load": 246,
        "kexec_file_load": 320, "reboot": 169, "swapon": 167, "swapoff": 168, "acct": 163, "quotactl": 179,
        "syslog": 103, "settimeofday": 164, "clock_settime": 227, "clock_adjtime": 305, "adjtimex": 159,
        "sethostname": 170, "setdomainname": 171, "vhangup": 153, "iopl": 172, "ioperm": 173,
    },
    "aarch64": {
        "arch": 0xC00000B7, "socket": 198, "clone": 220, "unshare": 97, "setns": 268, "mount": 40, "umount2": 39,
        "pivot_root": 41, "chroot": 51, "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272,
        "bpf": 280, "perf_event_open": 241, "userfaultfd": 282, "add_key": 217, "request_key": 218, "keyctl": 219,
        "open_by_handle_at": 265, "init_module": 105, "delete_module": 106, "finit_module": 273, "kexec_load": 104,
        "kexec_file_load": 294, "reboot": 142, "swapon": 224, "swapoff": 225, "acct": 89, "quotactl": 60,
        "syslog": 116, "settimeofday": 170, "clock_settime": 112, "clock_adjtime": 266, "adjtimex": 171,
        "sethostname": 161, "setdomainname": 162, "vhangup": 58,
    },
}  # fmt: skip
_JUDGED = ("arch", "socket", "clone")
"""Not refused as such."""
_NEEDED_BY_ZYGOTES = ("unshare", "setns", "mount")
_FAMILIES = (1, 2, 10, 16)
"""Unix, IPv4, IPv6 and netlink, which looks up addresses: sockets of others go past every rule of the network."""
_CLONE_NEW = 0x7E020080
"""Every flag of clone and unshare that makes a namespace."""
_LOAD, _EQUAL, _ANY_BIT, _AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
_ALLOW, _EPERM, _ENOSYS = 0x7FFF0000, 0x00050001, 0x00050026
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16
"""Offsets in what the kernel shows to a filter; arguments are 8 bytes each, the lower half first."""
_X32 = 0x40000000
"""Set in the numbers of a second set of calls on x86-64, which would slip past."""
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_Step = tuple[int, int, int, int]
_STEP = struct.Struct("HBBI")


def available() -> bool:
    """Whether this machine's kernel and architecture can filter."""
    is_64_bit = sys.maxsize > 2**32  # a smaller Python makes the calls of another architecture: all would be refused
    return is_64_bit and os.uname().machine in _CALLS and os.path.exists("/proc/sys/kernel/seccomp/actions_avail")


def for_workers() -> "Program":
    """No new namespaces, no mounts, no looking into other processes, none of the kernel's sharper tools. Made once, and
    installed in each."""
    calls = _CALLS[os.uname().machine]
    namespaces = [("clone", _CLONE_NEW), ("unshare", _CLONE_NEW)]
    denied = [number for name, number in calls.items() if name not in (*_JUDGED, "unshare")]
    rules = [_refuse_bits(calls[name], 0, bits) for name, bits in namespaces]
    return Program(calls["arch"], denied, [*rules, _require_one_of(calls["socket"], 0, _FAMILIES)])


def confine_zygote() -> None:
    """The same for the process that imports the package and forks workers, which needs a little more: bind mounts, and
    mount, ipc and pid namespaces for its workers."""
    calls = _CALLS[os.uname().machine]
    denied = [number for name, number in calls.items() if name not in (*_JUDGED, *_NEEDED_BY_ZYGOTES)]
    allowed = linux.CLONE_NEWNS | linux.CLONE_NEWIPC | linux.CLONE_NEWPID
    rules = [
        _refuse_bits(calls["clone"], 0, _CLONE_NEW),
        _refuse_bits(calls["unshare"], 0, _CLONE_NEW & ~allowed),
        _require_bits(calls["mount"], 3, linux.MS_BIND),
        _require_one_of(calls["socket"], 0, _FAMILIES),
    ]
    Program(calls["arch"], denied, rules).install()


def _refuse_bits(call: int, argument: int, bits: int) -> list[_Step]:
    """Refuses a call with any of these bits in an argument."""
    return _look_at(call, argument, (_ANY_BIT, 0, 1, bits))


def _require_bits(call: int, argument: int, bits: int) -> list[_Step]:
    """Refuses a call without these bits in an argument."""
    return _look_at(call, argument, (_ANY_BIT, 1, 0, bits))


def _require_one_of(call: int, argument: int, values: tuple[int, ...]) -> list[_Step]:
    """Refuses a call with any other value in an argument."""
    load = (_LOAD, 0, 0, _ARGUMENTS + 8 * argument)
    tests = [(_EQUAL, len(values) - number, 0, value) for number, value in enumerate(values)]
    return [(_EQUAL, 0, len(values) + 3, call), load, *tests, (_RETURN, 0, 0, _EPERM), (_RETURN, 0, 0, _ALLOW)]


def _look_at(call: int, argument: int, test: _Step) -> list[_Step]:
    """Decides about a call by an argument: the test goes on to the refusal, or jumps over it."""
    load = (_LOAD, 0, 0, _ARGUMENTS + 8 * argument)
    return [(_EQUAL, 0, 4, call), load, test, (_RETURN, 0, 0, _EPERM), (_RETURN, 0, 0, _ALLOW)]


class Program:
    """Rules in the language of the kernel."""

    def __init__(self, architecture: int, denied: Iterable[int], rules: Iterable[list[_Step]]) -> None:
        code = _encode(architecture, denied, rules)
        self._structure = _Structure(len(code) // _STEP.size, code)

    def install(self) -> None:
        """Binds this process and its descendants to the rules. For good."""
        linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
        linux.prctl_pointer(_PR_SET_SECCOMP, _MODE_FILTER, self._structure)


def _encode(architecture: int, denied: Iterable[int], rules: Iterable[list[_Step]]) -> bytes:
    program: list[_Step] = [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _EPERM),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, _EPERM),
        (_EQUAL, 0, 1, _CLONE3),
        (_RETURN, 0, 0, _ENOSYS),
    ]
    for number in (*denied, *_SAME_EVERYWHERE):
        program += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _EPERM)]
    for rule in rules:
        program += rule
    program.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(_STEP.pack(*step) for step in program)


class _Structure(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("steps", ctypes.c_char_p)]
