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


def _way_out(job: SandboxJob) -> str:
    """What to do with a file that takes too much: rows can be split, a model or a template cannot."""
    return "split it, or write it again in another format" if job.error is DataInvalid else "take one whose origin you know"


def _hint(job: SandboxJob) -> str:
    return f"an honest file of this kind needs far less: {_way_out(job)}"


def over_memory(job: SandboxJob) -> TailorbirdError:
    """Error for a child over its memory limit."""
    message = f"{job.about}: reading it takes more than {job.limits.memory // _MIB:,} MiB of memory"
    return job.error(message, _hint(job), code="parser_memory")


def over_processor(job: SandboxJob) -> TailorbirdError:
    """Error for a child over its processor time."""
    message = f"{job.about}: reading it takes more than {job.limits.processor:,} s of processor time"
    return job.error(message, _hint(job), code="parser_processor")


def over_wait(job: SandboxJob) -> TailorbirdError:
    """Error for a child over its wall-clock limit."""
    message = f"{job.about}: reading it did not end within {job.limits.wait:,.0f} s"
    return job.error(message, f"try again when the machine is less busy; if that does not help, {_way_out(job)}", code="parser_time")


def over_output(job: SandboxJob) -> TailorbirdError:
    """Error for output over its limit."""
    message = f"{job.about}: a small file that expands to gigabytes"
    hint = f"what is read from it may have {job.limits.output // _MIB:,} MiB; leave out rows that say the same"
    return job.error(message, hint, code="file_expands")


def over_space(job: SandboxJob) -> TailorbirdError:
    """Error for a child whose files take more space than they may."""
    message = f"{job.about}: unpacking it takes more than {job.limits.space // _MIB:,} MiB of disk"
    return job.error(message, "an archive that expands beyond measure: give its content as plain files", code="file_expands")


def crashed(job: SandboxJob, how: str) -> TailorbirdError:
    """Error for a child that crashed."""
    message = f"{job.about}: the process that read it crashed ({how})"
    return job.error(message, "the file is damaged, or made to break its reader: write it again", code="parser_crashed")


def unreadable(job: SandboxJob, kind: str) -> TailorbirdError:
    """The reader raised what it raises for no file that is what it says."""
    return job.error(f"{job.about}: it cannot be read ({kind})", "the file is damaged: write it again", code=job.broken)
