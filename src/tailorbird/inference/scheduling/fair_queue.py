"""Fair queueing between tenants, by tokens rather than requests."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """Items waiting by owner, each owner's in order of arrival."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[T]] = OrderedDict()
        self._served: dict[str, float] = {}
        self._floor = 0.0

    def __len__(self) -> int:
        return sum(len(items) for items in self._waiting.values())

    def __iter__(self) -> Iterator[T]:
        for items in self._waiting.values():
            yield from items

    def waiting_of(self, owner: str) -> int:
        """Number of waiting items of ``owner``."""
        return len(self._waiting.get(owner, ()))

    def add(self, owner: str, item: T) -> None:
        """``item`` waits behind the others of its owner."""
        if owner not in self._waiting:
            self._waiting[owner] = deque()
            self._served[owner] = max(self._served.get(owner, 0.0), self._floor)
        self._waiting[owner].append(item)

    def next(self) -> T | None:
        """The first item of the least served owner; None when nothing waits. It stays."""
        owner = min(self._waiting, key=self._served.__getitem__, default=None)
        return None if owner is None else self._waiting[owner][0]

    def take(self, owner: str, item: T) -> None:
        """``item``, which waits, is let in."""
        self._floor = max(self._floor, self._served[owner])
        self.remove(owner, item)

    def remove(self, owner: str, item: T) -> bool:
        """Takes ``item`` out; False when it does not wait."""
        items = self._waiting.get(owner)
        if items is None or item not in items:
            return False
        items.remove(item)
        if not items:
            del self._waiting[owner]
        return True

    def charge(self, owner: str, tokens: float) -> None:
        """``owner`` was given ``tokens``."""
        self._served[owner] = self._served.get(owner, self._floor) + tokens
