"""What a piece of work took by three clocks: seconds that passed, processor time of the calling thread, and the wait for a core.

In: work. Out: readings, and whether they were made beside other work. Must not know: what the work is.

That other processes wanted the cores is seen by how long the threads of this process stood ready and had none, which Linux counts
(``schedstat``), and by what the hypervisor took (``steal``); other systems do not tell, and are taken for quiet. A GPU is waited for
and has its own clock: there nothing is kept from the cores.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

#: Threads that stood ready for more than this share of the time were kept from the cores by others.
LOADED = 0.05

_TASKS, _HERE, _CORES = Path("/proc/self/task"), Path("/proc/thread-self/schedstat"), Path("/proc/stat")


@dataclass(frozen=True)
class Reading:
    """Of one piece of work, in seconds: what passed, what the calling thread computed, and how long threads stood ready without a core."""

    passed: float
    thread: float
    waited: float
    threads: int

    @property
    def loaded(self) -> bool:
        """Whether other processes wanted the cores."""
        return self.waited > LOADED * self.passed * self.threads

    @property
    def efficiency(self) -> float:
        """The share of the time that the calling thread computed."""
        return min(1.0, self.thread / self.passed) if self.passed else 1.0


def read(work: Callable[[], object]) -> Reading:
    """Does ``work`` once."""
    waited, thread, started = _waited(), time.thread_time(), time.perf_counter()
    work()
    passed = time.perf_counter() - started
    return Reading(passed, time.thread_time() - thread, max(0.0, _waited() - waited), torch.get_num_threads())


class Laps:
    """The time of something long, lap by lap. On a GPU, which is waited for, nothing is kept from the cores."""

    def __init__(self, device: torch.device) -> None:
        self._gpu = device.type == "cuda"
        self._last = self._now()

    def lap(self) -> Reading:
        """Since the lap before, or since this was made."""
        before, self._last = self._last, self._now()
        passed, thread, waited = (now - then for now, then in zip(self._last, before, strict=True))
        return Reading(passed, thread, 0.0 if self._gpu else max(0.0, waited), torch.get_num_threads())

    @staticmethod
    def _now() -> tuple[float, float, float]:
        return time.monotonic(), time.thread_time(), _waited()


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Computes with ``count`` threads inside the block; 0 leaves them as they are."""
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _waited() -> float:
    """Seconds that threads of this process have stood ready without a core, and that a hypervisor took; 0 where nobody counts them."""
    return _threads_ready.seconds() + _stolen()


class _Ready:
    """How long threads of this process have stood ready in all, those that have ended among them: a sum that never falls."""

    def __init__(self) -> None:
        self._living: dict[str, float] = {}
        self._ended = 0.0

    def seconds(self) -> float:
        """Until now."""
        if not _TASKS.is_dir():
            return 0.0
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


def _stolen() -> float:
    """The eighth number of the first line, in clock ticks, of all cores."""
    with suppress(OSError, IndexError, ValueError):
        with _CORES.open(encoding="ascii") as file:
            return int(file.readline().split()[8]) / os.sysconf("SC_CLK_TCK") / (os.cpu_count() or 1)
    return 0.0
