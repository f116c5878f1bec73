"""Kernel confinement by libc: no network, no other programs, Landlock, death with the parent."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000
_SET_DEATH_SIGNAL, _SET_SECCOMP, _SET_NO_NEW_PRIVILEGES, _SET_DUMPABLE = 1, 22, 38, 4
_FILTER_MODE = 2

#: Statements of the kernel's filter language: load a word, jump when equal, jump when greater or equal, jump when a bit is set, return.
_LOAD, _EQUAL, _AT_LEAST, _BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_REFUSE, _MISSING = 0x00050000 | 1, 0x00050000 | 38  # EPERM; ENOSYS, upon which libc makes threads by ``clone``
#: Where the number of a call, the architecture and the first argument's low word lie.
_NUMBER, _ARCHITECTURE, _FIRST = 0, 4, 16
_THREAD = 0x00010000

#: Architecture; the number of ``clone``; those of socket, connect and bind; and of what is refused to everybody: fork, vfork, execve,
#: execveat, ptrace, kill, tkill, tgkill, process_vm_readv, process_vm_writev, pidfd_open, pidfd_getfd, pidfd_send_signal, io_uring_setup,
#: bpf, unshare, setns, mount, keyctl, add_key, request_key, perf_event_open, userfaultfd, prlimit64, setrlimit.
_X86 = (
    0xC000003E,
    56,
    (41, 42, 49),
    (57, 58, 59, 322, 101, 62, 200, 234, 310, 311, 434, 438, 424, 425, 321, 272, 308, 165, 250, 248, 249, 298, 323, 302, 160),
)
_ARM = (
    0xC00000B7,
    220,
    (198, 203, 200),
    (221, 281, 117, 129, 130, 131, 270, 271, 434, 438, 424, 425, 280, 97, 268, 40, 219, 217, 218, 241, 282, 261, 164),
)
#: Landlock's calls, which have the same numbers everywhere, and its rights: to write a file, to remove and to make whatever there is; and
#: by the version that knows them: to move it elsewhere, to cut it.
_MAKE_RULES, _ADD_RULE, _OBEY_RULES = 444, 445, 446
_WRITE_FILE = 1 << 1
_WRITING = _WRITE_FILE | sum(1 << bit for bit in range(4, 13))
_LATER_WRITING = ((2, 1 << 13), (3, 1 << 14))
_CALLS = {"x86_64": _X86, "aarch64": _ARM}
_CLONE3, _X32 = 435, 0x40000000


def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def leave_network() -> bool:
    """Has this process, which has one thread, and its children in a network of their own, where nothing is."""
    if sys.platform != "linux":
        return False
    user, group = os.getuid(), os.getgid()
    with suppress(OSError, AttributeError):
        libc = _libc()
        if libc.unshare(_NEW_NETWORK) == 0:
            return True
        if libc.unshare(_NEW_USER | _NEW_NETWORK) == 0:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
            Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
            return True
    return False


def private_memory() -> int:
    """Bytes that count for ``RLIMIT_DATA`` now; 0 where the system does not tell."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmData:"):
                return int(line.split()[1]) * 1024
    return 0


def die_with_parent() -> None:
    """Has this process killed when the one that made it ends, or first when memory runs out, and its memory hidden from others."""
    with suppress(OSError, AttributeError):
        Path("/proc/self/oom_score_adj").write_text("1000")
        libc = _libc()
        libc.prctl(_SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        libc.prctl(_SET_DUMPABLE, 0, 0, 0, 0)


def refuse_calls() -> bool:
    """From now on the kernel refuses this process other programs and processes, signals, and sockets. Threads may be made."""
    known = _CALLS.get(platform.machine())
    if sys.platform != "linux" or known is None or struct.calcsize("P") != 8:
        return False
    architecture, clone, sockets, others = known
    program = b"".join(_statement(*each) for each in _program(architecture, clone, (*sockets, *others)))
    try:
        libc = _libc()
        held = ctypes.create_string_buffer(program, len(program))
        described = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(held))
        if libc.prctl(_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
            return False
        return bool(libc.prctl(_SET_SECCOMP, _FILTER_MODE, ctypes.create_string_buffer(described, len(described)), 0, 0) == 0)
    except (OSError, AttributeError):
        return False


def write_only_below(folders: Sequence[str]) -> bool:
    """From now on this process makes, changes and removes files below ``folders`` only (Landlock, Linux 5.13 and later)."""
    if sys.platform != "linux":
        return False
    try:
        libc = _libc()
        version = libc.syscall(_MAKE_RULES, None, 0, 1)
        rights = _WRITING | sum(bit for since, bit in _LATER_WRITING if version >= since)
        rules = libc.syscall(_MAKE_RULES, struct.pack("Q", rights), 8, 0) if version > 0 else -1
        if rules < 0:
            return False
        for name, granted in (*((folder, rights) for folder in folders), (os.devnull, _WRITE_FILE)):
            place = os.open(name, os.O_PATH | os.O_CLOEXEC)
            libc.syscall(_ADD_RULE, rules, 1, struct.pack("=Qi", granted, place), 0)
            os.close(place)
        libc.prctl(_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        return bool(libc.syscall(_OBEY_RULES, rules, 0) == 0)
    except (OSError, AttributeError):
        return False


def _program(architecture: int, clone: int, refused: tuple[int, ...]) -> list[tuple[int, int, int, int]]:
    """(code, jump if so, jump if not, value) of each statement. Calls of another architecture's numbers end the process."""
    checks: list[tuple[int, int, int, int]] = []
    for number in refused:
        checks += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE)]
    return [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, _KILL),
        (_EQUAL, 0, 1, _CLONE3),
        (_RETURN, 0, 0, _MISSING),
        *checks,
        (_EQUAL, 1, 0, clone),
        (_RETURN, 0, 0, _ALLOW),
        (_LOAD, 0, 0, _FIRST),
        (_BIT, 0, 1, _THREAD),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    ]


def _statement(code: int, so: int, otherwise: int, value: int) -> bytes:
    return struct.pack("HBBI", code, so, otherwise, value)


_SOCKETS = frozenset({"socket.__new__", "socket.connect", "socket.bind"})
_PROGRAMS = frozenset({"subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "os.system", "os.kill"})


def refuse_events() -> None:
    """The same as ``refuse_calls`` where the kernel does not help, as far as Python sees: what a library in C does is not seen."""

    def hook(event: str, _arguments: Any) -> None:
        if event in _PROGRAMS | _SOCKETS:
            raise PermissionError(f"{event} is not for a process that reads foreign bytes")

    sys.addaudithook(hook)
