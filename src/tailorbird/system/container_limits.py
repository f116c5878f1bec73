"""Limits of the container, or of systemd's unit, that this process runs in: it has less than the machine (Linux, cgroups 1 and 2)."""

from __future__ import annotations

import math
import os
from contextlib import suppress
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
