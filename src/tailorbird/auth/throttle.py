"""Throttle for failed attempts, per network address."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from threading import Lock

#: Addresses remembered at most; the longest unseen are forgotten first.
_LARGEST_MEMORY = 10_000


class Throttle:
    """Limit of ``most`` failed attempts per address in any ``seconds``. Safe to share between threads."""

    def __init__(self, most: int = 10, seconds: float = 60.0, now: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._seconds = seconds
        self._now = now
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = Lock()

    def begin(self, address: str) -> float:
        """Counts an attempt as failed until ``succeed`` says otherwise, so that many at once count too.

        Returns 0, or the seconds to wait; then the attempt is not counted and must not be made.
        """
        with self._lock:
            failures = self._of(address)
            if wait := self._wait(failures):
                return wait
            failures.append(self._now())
            return 0.0

    def wait(self, address: str) -> float:
        """Seconds until an attempt may be made; 0: now. Counts nothing."""
        with self._lock:
            return self._wait(self._of(address))

    def fail(self, address: str) -> None:
        """Counts an attempt that failed."""
        with self._lock:
            failures = self._of(address)
            if not self._wait(failures):
                failures.append(self._now())

    def succeed(self, address: str) -> None:
        """Takes the newest attempt back."""
        with self._lock:
            failures = self._of(address)
            if failures:
                failures.pop()

    def _wait(self, failures: deque[float]) -> float:
        now = self._now()
        while failures and failures[0] <= now - self._seconds:
            failures.popleft()
        return failures[0] + self._seconds - now if len(failures) >= self._most else 0.0

    def _of(self, address: str) -> deque[float]:
        place = network_of(address)
        failures = self._failures.setdefault(place, deque())
        self._failures.move_to_end(place)
        while len(self._failures) > _LARGEST_MEMORY:
            self._failures.popitem(last=False)
        return failures


def network_of(address: str) -> str:
    """Network that counts as one address: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 6 and parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else str(parsed)
