"""Clock floor: keys and sessions expire by the latest time ever seen, so a clock that is set back revives nothing."""

from __future__ import annotations

from datetime import datetime, timedelta

from tailorbird.usecases.dependencies import Dependencies
from tailorbird.usecases.maintenance.checkpoint_shipping import Notice

#: A clock that is behind by more than this is told of; less is what machines differ by.
_WORTH_A_WORD = timedelta(minutes=2)


def believed(now: datetime, floor: datetime | None) -> datetime:
    """``now``, or the floor where the clock is behind it."""
    return now if floor is None else max(now, floor)


def believed_now(deps: Dependencies) -> datetime:
    """The time by which what expires is judged."""
    with deps.ledger.system(write=False) as system:
        return believed(deps.clock.now(), system.floor.at())


def keep_time(deps: Dependencies) -> None:
    """Raises the floor to the present time; servers and workers do it every minute."""
    with deps.ledger.system() as system:
        system.floor.raise_to(deps.clock.now())


def notices(deps: Dependencies) -> list[Notice]:
    """Notice when this machine's clock is behind the clock floor."""
    with deps.ledger.system(write=False) as system:
        floor = system.floor.at()
    behind = floor - deps.clock.now() if floor else timedelta(0)
    if behind <= _WORTH_A_WORD:
        return []
    text = f"the clock is {behind.total_seconds() / 60:.0f} minutes behind what the record has seen: set it; keys expire by the latter"
    return [Notice(code="clock_behind", text=text)]
