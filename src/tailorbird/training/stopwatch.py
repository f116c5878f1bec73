"""How long work takes on this machine when no other process wants its cores, measured whether one does or not.

Beside other work seconds that pass tell nothing. The processor time of the calling thread does: with threads that sleep while they wait
for one another it grows by what the thread computes and by nothing else, and the calling thread takes its share of every product and
all that lies between. Divided by the share of the time that it computes on a quiet machine (its efficiency: the rest it waits for other
threads) it is what the work takes there.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from tailorbird.training.thread_barriers import Barriers
from tailorbird.training.work_clocks import ClockReading, read, ready_here

#: The least of so many is taken: what else goes on at a machine only ever adds.
REPEATS = 2
#: Share of the time that the calling thread computes where that was never measured.
EFFICIENCY = 0.9


class Stopwatch:
    """Times pieces of work; ``loaded`` tells whether one of them was read beside other work.

    ``efficiency`` is what an earlier quiet reading on this machine found; 0 where there is none.
    """

    def __init__(self, device: torch.device, efficiency: float = 0.0) -> None:
        self._gpu = device.type == "cuda"
        self._given = efficiency or EFFICIENCY
        self._barriers = Barriers(device)
        self.loaded = False
        #: What was learned here; 0 where nothing was.
        self.efficiency = 0.0

    def least(self, work: Callable[[], object], after: Callable[[], object] = lambda: None, lasting: float = 0.0) -> float:
        """Seconds of the fastest of several times, for ``lasting`` seconds at least; ``after`` is done each time and not timed.

        Beside other work threads are let sleep, so that processor time is what was computed, and one more time is taken.
        """
        spinning, asleep, started = list[ClockReading](), list[ClockReading](), time.perf_counter()
        while True:
            (asleep if self._barriers.asleep else spinning).append(one := read(work))
            after()
            if not self._gpu:
                self._barriers.heed(one)
            enough = len(spinning) + len(asleep) >= REPEATS and time.perf_counter() - started >= lasting
            if enough and (asleep or not self._barriers.asleep):
                break
        quiet = [one.passed for one in (*spinning, *asleep) if self._gpu or not one.loaded]
        if quiet:
            return min(quiet)
        self.loaded = True
        return min(one.thread for one in asleep or spinning) / self._given

    def learn(self, work: Callable[[], object], seconds: float) -> None:
        """The efficiency, from ``work`` that takes ``seconds`` on this machine, where it is quiet."""
        if self.loaded or self._gpu or not seconds:
            return
        self._barriers.sleep()
        one = read(work)
        self._barriers.spin()
        self.efficiency = 0.0 if one.loaded else min(1.0, one.thread / seconds)

    def once(self, work: Callable[[], object]) -> float:
        """Seconds of what can be done only once, or is mostly done by the disk."""
        ready, one = ready_here(), read(work)
        if self._gpu or not one.loaded:
            return one.passed
        self.loaded = True
        return max(one.thread, one.passed - (ready_here() - ready))

    def leave(self) -> None:
        """Threads wait as they did before."""
        self._barriers.spin()
