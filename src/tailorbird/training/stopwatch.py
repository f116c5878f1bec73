"""How long work takes on this machine when no other process wants its cores, measured whether one does or not.

In: work, threads. Out: seconds, and whether they were read beside other work. Must not know: what the work is.

Beside other work seconds that pass tell nothing. The processor time of the calling thread does: with threads that sleep while they wait for
one another it grows by what the thread computes and by nothing else, and the calling thread takes its share of every product and
all that lies between. Divided by the share of the time that it computes on a quiet machine (its efficiency: the rest it waits for other
threads) it is what the work takes there. That others wanted the cores is seen by how long the threads of this process stood ready and
had none, which Linux counts (``schedstat``), and by what the hypervisor took (``steal``); other systems do not tell, and are taken for
quiet. A GPU is waited for and has its own clock: seconds that pass are right.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from tailorbird.foundations.threads import sleeps

#: The least of so many is taken: what else goes on at a machine only ever adds.
REPEATS = 2
#: Threads that stood ready for more than this share of the time were kept from the cores by others.
LOADED = 0.05
#: Share of the time that the calling thread computes where that was never measured.
EFFICIENCY = 0.9
#: Speed of each further thread over the first, where threads spin and one alone has to be timed.
_FURTHER = 0.6

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


class Stopwatch:
    """Times pieces of work; ``loaded`` tells whether one of them was read beside other work.

    ``efficiency`` is what an earlier quiet reading on this machine found; 0 where there is none.
    """

    def __init__(self, device: torch.device, efficiency: float = 0.0) -> None:
        self._gpu = device.type == "cuda"
        self._efficiency = efficiency or EFFICIENCY
        self._quiet: list[Reading] = []
        self.loaded = False

    def least(self, work: Callable[[], object], after: Callable[[], object] = lambda: None, lasting: float = 0.0) -> float:
        """Seconds of the fastest of several times, for ``lasting`` seconds at least; ``after`` is done each time and not timed."""
        readings, started = list[Reading](), time.perf_counter()
        while len(readings) < REPEATS or time.perf_counter() - started < lasting:
            readings.append(read(work))
            after()
        quiet = [one for one in readings if self._gpu or not one.loaded]
        if quiet:
            self._quiet += quiet
            return min(one.passed for one in quiet)
        self.loaded = True
        if sleeps():
            return min(one.thread for one in readings) / self._efficiency
        with threads(1):
            alone = read(work)
        after()
        return alone.thread / (1 + _FURTHER * (torch.get_num_threads() - 1))

    def once(self, work: Callable[[], object]) -> float:
        """Seconds of what can be done only once, or is mostly done by the disk."""
        ready, one = _ready_here(), read(work)
        if self._gpu or not one.loaded:
            return one.passed
        self.loaded = True
        return max(one.thread, one.passed - (_ready_here() - ready))

    @property
    def efficiency(self) -> float:
        """What the quiet readings found; 0 without any."""
        passed = sum(one.passed for one in self._quiet)
        return min(1.0, sum(one.thread for one in self._quiet) / passed) if passed and not self._gpu else 0.0


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
    return _ready() + _stolen()


def _ready() -> float:
    return sum(_ready_of(task / "schedstat") for task in _TASKS.iterdir()) if _TASKS.is_dir() else 0.0


def _ready_here() -> float:
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
