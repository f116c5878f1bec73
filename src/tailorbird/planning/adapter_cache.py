"""Adapter cache of the twin: the same residency policy as the engine's registry, over numbers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence


class AdapterCache:
    """Adapters by number. ``sizes`` and ``budget`` are in one unit; the base's weights are taken off the budget before."""

    def __init__(self, sizes: Sequence[int], budget: int) -> None:
        self._sizes = sizes
        self._budget = budget
        self._there: OrderedDict[int, None] = OrderedDict()
        self._users: dict[int, int] = {}
        self._held = 0

    def __contains__(self, adapter: int) -> bool:
        return adapter in self._there

    @property
    def resident(self) -> tuple[int, ...]:
        """Adapters in memory, the longest unused first."""
        return tuple(self._there)

    def hold(self, adapter: int) -> bool:
        """A request begins to use an adapter; True where it is in memory."""
        self._users[adapter] = self._users.get(adapter, 0) + 1
        if adapter not in self._there:
            return False
        self._there.move_to_end(adapter)
        return True

    def bring(self, adapter: int) -> bool:
        """An adapter comes into memory, and what nobody uses is put out, the longest unused first, until the budget holds. True where it
        was not there."""
        missing = adapter not in self._there
        if missing:
            self._there[adapter] = None
            self._held += self._sizes[adapter]
        self._there.move_to_end(adapter)
        self._make_room(adapter)
        return missing

    def release(self, adapter: int) -> None:
        """A request is over."""
        self._users[adapter] -= 1
        if not self._users[adapter]:
            del self._users[adapter]

    def _make_room(self, keep: int) -> None:
        out = list[int]()
        for one in self._there:
            if self._held <= self._budget:
                break
            if one != keep and one not in self._users:
                out.append(one)
                self._held -= self._sizes[one]
        for one in out:
            del self._there[one]
