"""Limits of the container, or of systemd's unit, that this process runs in: it has less than the machine (Linux, cgroups 1 and 2)."""

from __future__ import annotations

import ctypes
import gc
import math
import os
import platform
import resource
import sys
import threading
import weakref
from contextlib import suppress
from functools import cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

_ROOT, _OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_THREADS = "OMP_NUM_THREADS"


class _MemoryFiles(NamedTuple):
    """Where one version of cgroups tells of memory: the controller's folder and files, and what of it the system can take back."""

    controller: str
    limit: str
    held: str
    cached: str


_MEMORY = (
    _MemoryFiles("", "memory.max", "memory.current", "inactive_file"),
    _MemoryFiles("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def memory_limit() -> float:
    """Bytes that the processes of this group may hold together; infinite where nothing limits them."""
    return min((_limit(group, files) for files in _MEMORY for group in _groups(files.controller)), default=math.inf)


def memory_left() -> float:
    """Bytes that they may still take; infinite where nothing limits them."""
    return min((_left(group, files) for files in _MEMORY for group in _groups(files.controller)), default=math.inf)


def core_limit() -> float:
    """Cores of whose time they may use as much as there is, a fraction too; infinite where nothing limits them."""
    quotas = [_read(group / "cpu.max").split() for group in _groups("")]
    quotas += [[_read(group / f"cpu.cfs_{name}_us") for name in ("quota", "period")] for group in _groups("cpu")]
    return min((int(quota[0]) / int(quota[1]) for quota in quotas if len(quota) == 2 and all(map(str.isdecimal, quota))), default=math.inf)


def start_no_more_threads_than_cores() -> None:
    """Has libraries compute with as many threads as this group has cores, unless that is said: with one for each core of the machine they
    would wait for one another. To be called before anything is loaded that computes."""
    cores, limit = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, core_limit()
    if limit < cores:
        os.environ.setdefault(_THREADS, str(max(1, math.floor(limit))))


def _limit(group: Path, files: _MemoryFiles) -> float:
    text = _read(group / files.limit)
    return int(text) if text.isdecimal() else math.inf


def _left(group: Path, files: _MemoryFiles) -> float:
    held = _read(group / files.held)
    facts = dict(line.split() for line in _read(group / "memory.stat").splitlines())
    return _limit(group, files) - (int(held) if held else 0) + int(facts.get(files.cached, 0))


def _groups(controller: str) -> list[Path]:
    """The folders of this process's group and of those above it, for a controller of version 1, or for version 2 (an empty name). In a
    container the path may be that of outside, of which the container sees the end alone."""
    for line in _read(_OWN).splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            inside = PurePosixPath("" if ".." in path else path.lstrip("/"))
            return [_ROOT / controller / place for place in (inside, *inside.parents)]
    return []


def _read(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(encoding="ascii").strip()
    return ""


_TOLD = Path("/proc/cpuinfo")


@cache
def processor_name() -> str:
    """Its model, with the numbers of family and model where there are any: virtual machines tell several kinds by one name."""
    try:
        lines = _TOLD.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return read_processor(lines) or platform.processor() or platform.machine()


def read_processor(lines: list[str]) -> str:
    """The same of the first processor in Linux's list; empty where that names none (as on ARM, where implementer and part do)."""
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    if "model name" in fields and "model" in fields:
        return f"{fields['model name']} (family {fields.get('cpu family', '?')}, model {fields['model']})"
    if "CPU part" in fields:
        return f"{platform.machine()} (implementer {fields.get('CPU implementer', '?')}, part {fields['CPU part']})"
    return fields.get("model name", "")


GIB = 2**30
_STATUS, _STATM, _CLEAR = Path("/proc/self/status"), Path("/proc/self/statm"), Path("/proc/self/clear_refs")
#: Written to ``clear_refs``, this resets the mark (proc(5)).
_RESET_MARK = "5"


_lock = threading.RLock()


class PeakMemory:
    """Counts from when it is made; several may count at once. Where the system keeps no mark that can be reset, what is looked at counts.

    The system keeps one mark a process: before one ``PeakMemory`` resets it, the others take over what it has reached.
    """

    def __init__(self) -> None:
        with _lock:
            for other in _counting:
                other._look()
            self.start = self._highest = resident_gib()
            self._reset = False
            with suppress(OSError):
                _CLEAR.write_text(_RESET_MARK, encoding="ascii")
                self._reset = True
            _counting.add(self)

    @property
    def gib(self) -> float:
        """The highest so far."""
        with _lock:
            self._look()
            return self._highest

    def _look(self) -> None:
        self._highest = max(self._highest, _marked_gib() if self._reset else resident_gib())


#: All that count now.
_counting: weakref.WeakSet[PeakMemory] = weakref.WeakSet()


def _marked_gib() -> float:
    """The system's mark."""
    with suppress(OSError):
        for line in _STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1]) * 1024 / GIB
    return resident_gib()


def resident_gib() -> float:
    """The resident set now; the highest of all times where the system tells no other."""
    with suppress(OSError):
        return int(_STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / GIB
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest * (1 if sys.platform == "darwin" else 1024) / GIB


#: How much more than before a process may hold, in GiB, before a return is worth it.
_GROWTH = 0.1


class _LastReturn:
    """What this process held after the last return, in GiB; less where it holds less now."""

    gib = 0.0


def return_freed_memory() -> None:
    """Collects cycles, which models are full of, and returns what the allocator keeps of them where it can (glibc)."""
    gc.collect()
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def return_growth(since: float) -> None:
    """The same where this process holds more than it did, at ``since`` GiB: walking all objects of a large one takes most of a second."""
    if resident_gib() > since + _GROWTH:
        return_freed_memory()


def return_grown_memory() -> None:
    """The same where the process has grown since the last time."""
    _LastReturn.gib = min(_LastReturn.gib, resident_gib())
    if resident_gib() > _LastReturn.gib + _GROWTH:
        return_freed_memory()
        _LastReturn.gib = resident_gib()
