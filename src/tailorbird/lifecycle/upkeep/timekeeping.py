"""By which time keys and sessions expire: a clock that is set back makes nothing valid again.

In: the machine's clock, the record's floor (the latest time that any process has seen). Out: the later of the two; the floor, raised; a
notice. Must not know: what expires. Leases go by the clock alone: they are bound from both sides (``ledger/runs.py``).
"""

from __future__ import annotations

from datetime import datetime, timedelta

from tailorbird.lifecycle.parts import Parts
from tailorbird.lifecycle.upkeep.shipping import Notice

#: A clock that is behind by more than this is told of; less is what machines differ by.
_WORTH_A_WORD = timedelta(minutes=2)


def believed(now: datetime, floor: datetime | None) -> datetime:
    """``now``, or the floor where the clock is behind it."""
    return now if floor is None else max(now, floor)


def believed_now(parts: Parts) -> datetime:
    """The time by which what expires is judged."""
    with parts.ledger.system(write=False) as system:
        return believed(parts.clock.now(), system.floor.at())


def keep_time(parts: Parts) -> None:
    """Raises the floor to the present time; servers and workers do it every minute."""
    with parts.ledger.system() as system:
        system.floor.raise_to(parts.clock.now())


def notices(parts: Parts) -> list[Notice]:
    """Whether this machine's clock is behind what the record has seen."""
    with parts.ledger.system(write=False) as system:
        floor = system.floor.at()
    behind = floor - parts.clock.now() if floor else timedelta(0)
    if behind <= _WORTH_A_WORD:
        return []
    text = f"the clock is {behind.total_seconds() / 60:.0f} minutes behind what the record has seen: set it; keys expire by the latter"
    return [Notice(code="clock_behind", text=text)]
