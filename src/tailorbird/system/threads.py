"""Clocks of the work of threads: elapsed, processor time, wait for a core; and their priority.

That other processes wanted the cores is seen by two counts together: how long the threads of this process stood ready and had none
(``schedstat``), and what of the cores was taken by others (``/proc/stat``: all that was busy, a hypervisor's share too, less what this
process computed). Threads that sleep and wake thousands of times a second stand ready a little each time, on a quiet machine too; there
others take nothing. Systems other than Linux do not tell, and are taken for quiet. A GPU is waited for and has its own clock: there
nothing is kept from the cores. Who computes (torch) is told of by its ``ThreadPool``.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

#: Threads that stood ready for more than this share of the time were kept from the cores by others, where others took this share of them.
LOADED = 0.05
#: Seconds of cores below which what others took cannot be told: it is counted in ticks of a hundredth.
_TELLING = 0.3

_TASKS, _HERE, _CORES = Path("/proc/self/task"), Path("/proc/thread-self/schedstat"), Path("/proc/stat")


class ThreadPool(NamedTuple):
    """The threads of a library that computes: how many."""

    threads: Callable[[], int]


@dataclass(frozen=True)
class ClockReading:
    """Of one piece of work, in seconds: what passed, what the calling thread computed, how long threads stood ready without a core, and
    what other processes took of the cores (infinite where it is not known)."""

    passed: float
    thread: float
    waited: float
    threads: int
    others: float = math.inf

    @property
    def loaded(self) -> bool:
        """True when other processes wanted the cores."""
        cores = self.passed * usable_cores()
        taken = self.others > LOADED * cores or cores < _TELLING
        return taken and self.waited > LOADED * self.passed * self.threads

    @property
    def efficiency(self) -> float:
        """The share of the time that the calling thread computed."""
        return min(1.0, self.thread / self.passed) if self.passed else 1.0


def read(work: Callable[[], object], pool: ThreadPool) -> ClockReading:
    """Does ``work`` once."""
    before = _now()
    work()
    return _since(before, pool)


@dataclass(frozen=True)
class _ClockSample:
    """The clocks at one time, in seconds: this and ``thread``'s as in ``Reading``, threads ``ready`` so far, cores ``busy`` with anybody's
    work (None where nobody counts that), and with this process's ``own``."""

    at: float
    thread: float
    ready: float
    busy: float | None
    own: float


def _now() -> _ClockSample:
    return _ClockSample(time.perf_counter(), time.thread_time(), _threads_ready.seconds(), _busy(), time.process_time())


def _since(then: _ClockSample, pool: ThreadPool) -> ClockReading:
    now = _now()
    others = math.inf if now.busy is None or then.busy is None else max(0.0, now.busy - then.busy - (now.own - then.own))
    return ClockReading(now.at - then.at, now.thread - then.thread, max(0.0, now.ready - then.ready), pool.threads(), others)


class _Ready:
    """How long threads of this process have stood ready in all, those that have ended among them: a sum that never falls."""

    def __init__(self) -> None:
        self._living: dict[str, float] = {}
        self._ended = 0.0
        self._counting = threading.Lock()

    def seconds(self) -> float:
        """Until now."""
        if not _TASKS.is_dir():
            return 0.0
        with self._counting:
            now = {task.name: _ready_of(task / "schedstat") for task in _TASKS.iterdir()}
            # A number that fell belongs to a new thread of the same name.
            self._ended += sum(then for name, then in self._living.items() if now.get(name, 0.0) < then)
            self._living = now
            return self._ended + sum(now.values())


_threads_ready = _Ready()


def ready_here() -> float:
    """The same of this thread alone."""
    return _ready_of(_HERE)


def _ready_of(path: Path) -> float:
    """The second of three numbers, in nanoseconds (proc(5), Documentation/scheduler/sched-stats)."""
    with suppress(OSError, IndexError, ValueError):
        return int(path.read_text(encoding="ascii").split()[1]) / 1e9
    return 0.0


def _busy() -> float | None:
    """Seconds that the cores which this process may use were busy, or taken by a hypervisor (proc(5), /proc/stat); None where nobody
    counts them."""
    used = {f"cpu{core}" for core in os.sched_getaffinity(0)} if hasattr(os, "sched_getaffinity") else set[str]()
    with suppress(OSError, IndexError, ValueError):
        lines = [line.split() for line in _CORES.read_text(encoding="ascii").splitlines()]
        # user, nice, system, idle, waiting for a disk, interrupts, soft interrupts, stolen
        ticks = [sum(map(int, (*line[1:4], *line[6:9]))) for line in lines if line and line[0] in used]
        return sum(ticks) / os.sysconf("SC_CLK_TCK") if ticks else None
    return None


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


#: Niceness that is added: beside a thread that is ready all the time one behind it has a tenth of a core. And the most that there is.
_BEHIND, _MOST = 10, 19


def stand_back() -> None:
    """From here on this thread, and each that it starts, computes after those of usual priority. For good: only a privileged process may
    take it back. On systems where threads have no priority of their own nothing changes."""
    if sys.platform == "linux":
        with suppress(OSError):
            thread = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, thread, min(_MOST, os.getpriority(os.PRIO_PROCESS, thread) + _BEHIND))
