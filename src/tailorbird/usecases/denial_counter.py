"""Denials that come in floods: the first of them are events, the rest are counted and become one event."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock
from typing import NamedTuple

#: Denials of one actor in a minute that are written by themselves; actors that are remembered.
MOST, _ACTORS = 10, 10_000
WINDOW = timedelta(minutes=1)


class Uncounted(NamedTuple):
    """Denials of ``actor`` from ``since`` on that were not written by themselves."""

    tenant: str
    actor: str
    since: datetime
    denied: int


@dataclass
class _Minute:
    began: datetime
    most: int
    denied: int = 0


class Denials:
    """What one process denied lately. Safe to share between threads; what it has counted and not told is lost with the process."""

    def __init__(self) -> None:
        self._minutes: OrderedDict[tuple[str, str], _Minute] = OrderedDict()
        self._over: list[Uncounted] = []
        self._lock = Lock()

    def is_written(self, tenant: str, actor: str, now: datetime, most: int = MOST) -> bool:
        """Counts a denial; True when it is to be written by itself, as are ``most`` of an actor in a minute."""
        with self._lock:
            minute = self._minutes.get((tenant, actor))
            if minute is None or not minute.began <= now < minute.began + WINDOW:
                self._close(tenant, actor)
                minute = self._minutes[tenant, actor] = _Minute(now, most)
                while len(self._minutes) > _ACTORS:
                    self._close(*next(iter(self._minutes)))
            minute.denied += 1
            return minute.denied <= minute.most

    def take(self, now: datetime | None = None) -> list[Uncounted]:
        """The counts of minutes that were over by ``now`` (None: of all), each once."""
        with self._lock:
            for key, minute in list(self._minutes.items()):
                if now is None or not minute.began <= now < minute.began + WINDOW:
                    self._close(*key)
            over, self._over = self._over, []
            return over

    def _close(self, tenant: str, actor: str) -> None:
        minute = self._minutes.pop((tenant, actor), None)
        if minute is not None and minute.denied > minute.most:
            self._over.append(Uncounted(tenant, actor, minute.began, minute.denied - minute.most))
