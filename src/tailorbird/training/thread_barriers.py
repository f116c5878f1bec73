"""How threads wait for one another: spinning while the cores are theirs, asleep while other processes want them.

GNU's OpenMP lets a thread spin at a barrier for 300,000 rounds before it sleeps, which is fastest alone; beside other work it takes the
core from the very thread that is waited for. Where more of its threads exist than there are cores, it lets them spin for 100 rounds
(libgomp's manual, GOMP_SPINCOUNT). So threads that do nothing but exist make the others sleep, at any moment, and without them they
spin again.
"""

from __future__ import annotations

import math
import threading

import torch

from tailorbird.training.work_clocks import ClockReading, Laps, usable_cores

#: Quiet readings in a row after which threads spin again.
_QUIET = 3
#: Numbers that are many enough to be shared among threads.
_SHARED = 2**20


class Barriers:
    """The way of waiting, changed by what is read. Threads spin until something is read, and again after ``spin``."""

    def __init__(self, device: torch.device) -> None:
        self._laps = Laps(device)
        self._leave: threading.Event | None = None
        self._idle: list[threading.Thread] = []
        self._quiet = 0

    @property
    def asleep(self) -> bool:
        """Whether threads sleep at once."""
        return self._leave is not None

    def look(self) -> None:
        """Reads what has been since the last look, and heeds it."""
        self.heed(self._laps.lap())

    def heed(self, reading: ClockReading) -> None:
        """Lets threads sleep from the first reading on that was made beside other work, and spin again after quiet ones."""
        self._quiet = 0 if reading.loaded else self._quiet + 1
        if reading.loaded:
            self.sleep()
        elif self._quiet >= _QUIET:
            self.spin()

    def sleep(self) -> None:
        """From now on."""
        used = torch.get_num_threads()
        if self._leave is not None or used == 1:
            return
        self._leave = threading.Event()
        for _ in range(math.ceil((usable_cores() - used + 1) / (used - 1))):
            there = threading.Event()
            thread = threading.Thread(target=_exist, args=(there, self._leave), name="barriers", daemon=True)
            thread.start()
            there.wait()
            self._idle.append(thread)

    def spin(self) -> None:
        """From now on."""
        if self._leave is not None:
            self._leave.set()
            for thread in self._idle:
                thread.join()
            self._leave, self._idle = None, []


def _exist(there: threading.Event, leave: threading.Event) -> None:
    """Computes once, so that OpenMP makes threads for this one, and keeps them until it is to leave."""
    torch.zeros(_SHARED).add_(1)
    there.set()
    leave.wait()
