"""Limit of calls at once, in all and per tenant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from tailorbird.domain.errors import Exhausted


class ConcurrencyLimit:
    """At most ``most`` calls at once, and ``most_each`` of one tenant; ``what`` they do stands in the refusal, ``code`` is its code. Safe
    to share between threads."""

    def __init__(self, most: int, most_each: int, what: str, code: str) -> None:
        self._most, self._most_each = most, most_each
        self._what, self._code = what, code
        self._running: Counter[str] = Counter()
        self._lock = Lock()

    @contextmanager
    def turn(self, tenant: str) -> Iterator[None]:
        """Counts a call of ``tenant`` until the block ends. Raises Exhausted (429) where as many are running as may be."""
        with self._lock:
            if self._running[tenant] >= self._most_each:
                raise self._refused(f"{self._most_each} of {tenant}")
            if self._running.total() >= self._most:
                raise self._refused(f"{self._most} in all")
            self._running[tenant] += 1
        try:
            yield
        finally:
            with self._lock:
                self._running[tenant] -= 1
                if not self._running[tenant]:
                    del self._running[tenant]

    def _refused(self, many: str) -> Exhausted:
        return Exhausted(
            f"{self._what}: {many} are under way already", "wait until one of them has ended", code=self._code, retry_after=5.0
        )
