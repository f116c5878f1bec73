"""A share of this machine's cores, GPUs and memory, for one of several processes that compute side by side."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from tailorbird.domain.errors import InvalidInput
from tailorbird.system.container_limits import core_limit

T = TypeVar("T")
_TOPOLOGY, _DEVICES, _TASKS = Path("/sys/devices/system/cpu"), Path("/dev"), Path("/proc/self/task")
_THREADS = "OMP_NUM_THREADS"
_GPUS = "CUDA_VISIBLE_DEVICES"
_WRITTEN = re.compile(r"([1-9]\d{0,3})/([1-9]\d{0,3})")


class MemoryShare(NamedTuple):
    """The parts of a machine's memory, and of its GPUs', that a process may take."""

    machine: float = 1.0
    gpu: float = 1.0


class MachineShare(NamedTuple):
    """The share ``number``, from 1, of ``of`` equal ones; as text ``2/4``."""

    number: int = 1
    of: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @classmethod
    def read(cls, text: str) -> MachineShare:
        """The share that ``text`` says. Raises InvalidInput."""
        found = _WRITTEN.fullmatch(text)
        share = cls(*map(int, found.groups())) if found else None
        if share is None or share.number > share.of:
            raise InvalidInput(f"{text} is no share of a machine", "write the second of four as 2/4", code="share_invalid")
        return share

    def part(self, things: Sequence[T]) -> Sequence[T]:
        """A stretch of ``things``; where there are fewer than shares, one that others have, too."""
        begins, ends = (number * len(things) // self.of for number in (self.number - 1, self.number))
        return things[begins : max(ends, begins + 1)]

    def take(self) -> MemoryShare:
        """Keeps this process, and the libraries that it will load, to its cores and GPUs. To be called before anything is loaded that
        computes. Returns its part of the memory."""
        if self.of == 1:
            return MemoryShare()
        if hasattr(os, "sched_setaffinity"):
            _bind(self.part(neighbouring_cores(os.sched_getaffinity(0))))
            most = min(len(os.sched_getaffinity(0)), max(1, math.floor(min(core_limit(), 1e6) / self.of)))
            told = os.environ.get(_THREADS, "")
            os.environ[_THREADS] = str(min(int(told), most) if told.isdecimal() and int(told) else most)
        return self.take_gpus(os.environ, gpus_of(os.environ))

    def take_gpus(self, environment: MutableMapping[str, str], gpus: Sequence[str]) -> MemoryShare:
        """Names its own of ``gpus`` in ``environment``, and returns its part of the memory."""
        if not gpus:
            return MemoryShare(1 / self.of)
        own = self.part(gpus)
        environment[_GPUS] = ",".join(own)
        beside = [MachineShare(number, self.of).part(gpus) for number in range(1, self.of + 1)]
        return MemoryShare(1 / self.of, 1 / max(sum(gpu in other for other in beside) for gpu in own))


def neighbouring_cores(cores: set[int], topology: Path = _TOPOLOGY) -> list[int]:
    """``cores`` in an order in which those that share a processor, and then those that are one core's two threads, stand together."""
    return sorted(cores, key=lambda core: (*(_number(topology / f"cpu{core}/topology/{name}") for name in _LEVELS), core))


def _bind(cores: Sequence[int]) -> None:
    """Keeps all threads of this process to ``cores``: numpy starts some of its own as it is loaded."""
    os.sched_setaffinity(0, cores)
    for thread in _TASKS.iterdir() if _TASKS.is_dir() else ():
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), cores)


_LEVELS = ("physical_package_id", "die_id", "core_id")


def _number(file: Path) -> int:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


def gpus_of(environment: Mapping[str, str], devices: Path = _DEVICES) -> list[str]:
    """The GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them: those that it names, else all whose device is there."""
    if _GPUS in environment:
        return [gpu.strip() for gpu in environment[_GPUS].split(",") if gpu.strip()]
    found = (re.fullmatch(r"nvidia(\d+)", device.name) for device in devices.glob("nvidia*"))
    return [str(number) for number in range(sum(match is not None for match in found))]
