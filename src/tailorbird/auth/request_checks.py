"""Throttle for failed attempts, per network address."""

from __future__ import annotations

import ipaddress
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from urllib.parse import urlsplit

from tailorbird.domain.errors import Exhausted, InvalidInput

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


_PORTS = {"http": 80, "https": 443}


def sent_by_own_page(headers: Mapping[str, str]) -> bool:
    """True when the browser says that a page of ours sent this: by ``sec-fetch-site``, or by ``origin`` where it does not send the former
    (over a connection that is not encrypted)."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    return "origin" in headers and urlsplit(headers["origin"]).netloc == headers.get("host")


def origin_of(url: str) -> str:
    """The origin of an address, as browsers write it: ``https://host``, with the port where it is not the usual one.

    Raises InvalidInput for what is no http(s) address.
    """
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname or "", parts.port
    except ValueError:
        parts, host, port = urlsplit(""), "", None
    if parts.scheme not in _PORTS or not host:
        raise InvalidInput(f"{url[:200]} is not the address of a server", "write it as https://host:port")
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}" + (f":{port}" if port and port != _PORTS[parts.scheme] else "")
