"""Resource limits of a sandboxed call, and the error for each that is exceeded."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from tailorbird.domain.errors import DataInvalid, InvalidInput, TailorbirdError

_MIB = 1 << 20


@dataclass(frozen=True)
class SandboxLimits:
    """``memory`` in bytes of private memory, ``processor`` in seconds of processor time, ``wait`` in seconds for which the caller waits for
    the child, ``output`` in bytes that it may send, ``written`` in bytes of a file that it may write (0: no file), ``space`` in bytes of
    all files together in the folders that it may fill (0: not counted).
    """

    memory: int
    processor: int
    wait: float
    output: int
    written: int = 0
    space: int = 0

    @staticmethod
    def for_bytes(size: int) -> SandboxLimits:
        """Those for parsing ``size`` bytes of data: far more than an honest file takes, far less than the machine has."""
        processor = 20 + size // _MIB
        memory = min((1 << 30) + 8 * size, max(1 << 30, machine_memory() // 2))
        return SandboxLimits(memory=memory, processor=processor, wait=2.0 * processor + 20, output=512 * _MIB + 100 * size)


def machine_memory() -> int:
    """Bytes of the machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@dataclass(frozen=True)
class SandboxJob:
    """A call of ``target`` (``module:function``, a generator over JSON values) with ``given``, which is JSON.

    ``about`` names what is parsed, ``error`` is the kind of refusal, ``broken`` its code where no reader can make anything of it. The
    modules ``warm`` are imported once, before the first fork. Files may be made below ``places`` alone (None: wherever its user may).
    """

    target: str
    given: dict[str, Any]
    limits: SandboxLimits
    about: str
    error: type[TailorbirdError] = InvalidInput
    warm: tuple[str, ...] = field(default=())
    broken: str = "file_broken"
    places: tuple[str, ...] | None = ()


#: What is said of each fault, what to do, and its code.
_FAULTS = {
    "memory": (
        "reading it takes more than {memory:,} MiB of memory",
        "an honest file of this kind needs far less: {way_out}",
        "parser_memory",
    ),
    "processor": (
        "reading it takes more than {processor:,} s of processor time",
        "an honest file of this kind needs far less: {way_out}",
        "parser_processor",
    ),
    "wait": (
        "reading it did not end within {wait:,.0f} s",
        "try again when the machine is less busy; if that does not help, {way_out}",
        "parser_time",
    ),
    "output": (
        "a small file that expands to gigabytes",
        "what is read from it may have {output:,} MiB; leave out rows that say the same",
        "file_expands",
    ),
    "space": (
        "unpacking it takes more than {space:,} MiB of disk",
        "an archive that expands beyond measure: give its content as plain files",
        "file_expands",
    ),
    "crashed": (
        "the process that read it crashed ({how})",
        "the file is damaged, or made to break its reader: write it again",
        "parser_crashed",
    ),
    "unreadable": ("it cannot be read ({how})", "the file is damaged: write it again", ""),
}


def fault(job: SandboxJob, kind: str, how: str = "") -> TailorbirdError:
    """The error of a child that exceeded the limit ``kind``, or is ``crashed`` or ``unreadable``."""
    message, hint, code = _FAULTS[kind]
    asked = job.limits
    sizes = {name: getattr(asked, name) // _MIB for name in ("memory", "output", "space")}
    facts = sizes | {
        "processor": asked.processor,
        "wait": asked.wait,
        "way_out": ("split it, or write it again in another format" if job.error is DataInvalid else "take one whose origin you know"),
        "how": how,
    }
    return job.error(f"{job.about}: {message.format(**facts)}", hint.format(**facts), code=code or job.broken)
