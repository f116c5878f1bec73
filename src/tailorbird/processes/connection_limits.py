"""How many connections there may be, in all and of one address; who has to go when there are more.

Whoever only holds connections open must not keep others out: for a new one the longest waiting one is closed, of the same address where
that has too many, and one that is being answered never is. Who comes with a whole request at once is hardly ever among the longest waiting.
"""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import ip_address, ip_network
from typing import Protocol

from tailorbird.auth import network_of

#: Connections at most, if the system's limit of descriptors allows: each may need a second one, to the engine; and so many for all else.
MOST, _RESERVED = 4096, 256
#: The share of all connections that one address may have.
_SHARE = 4
#: Descriptors that are asked for.
_WANTED = 65_536


class Connection(Protocol):
    """What is counted."""

    @property
    def is_answered(self) -> bool:
        """True while a whole request is being worked on: it is not ended for others."""
        ...

    def end(self) -> None:
        """Closes it at once."""
        ...


class ConnectionLimits:
    """The connections of one server; touched only from its event loop. ``most`` in all, ``most_each`` of an address (an IPv6 network of 64
    bits counts as one) that is not among the ``proxies``, behind which there are many."""

    def __init__(self, most: int, most_each: int, proxies: Sequence[str] = ()) -> None:
        self.most, self.most_each = most, most_each
        self._proxies = [ip_network(proxy, strict=False) for proxy in proxies]
        #: In the order in which they came, or last came to rest.
        self._waiting: dict[Connection, str] = {}
        self._busy: dict[Connection, str] = {}
        self._of: Counter[str] = Counter()

    @property
    def count(self) -> int:
        """Connections there are."""
        return len(self._waiting) + len(self._busy)

    def enter(self, connection: Connection, address: str) -> bool:
        """Counts a new connection, for which another may be closed. False, and not counted: there is no room."""
        place = "" if self._is_proxy(address) else network_of(address)
        if place and self._of[place] >= self.most_each and not self._close_one(lambda other: other == place):
            return False
        if self.count >= self.most and not self._close_one(lambda _: True):
            return False
        self._waiting[connection] = place
        self._of[place] += 1
        return True

    def busy(self, connection: Connection) -> None:
        """A whole request of it is being answered."""
        if (place := self._waiting.pop(connection, None)) is not None:
            self._busy[connection] = place

    def rest(self, connection: Connection) -> None:
        """It was answered, and waits again: behind those that wait already."""
        place = self._busy.pop(connection, None)
        place = self._waiting.pop(connection, place) if place is None else place
        if place is not None:
            self._waiting[connection] = place

    def leave(self, connection: Connection) -> None:
        """It is gone."""
        place = self._waiting.pop(connection, None)
        place = self._busy.pop(connection, None) if place is None else place
        if place is not None:
            self._of[place] -= 1
            if not self._of[place]:
                del self._of[place]

    def _close_one(self, wanted: Callable[[str], bool]) -> bool:
        for connection, place in self._waiting.items():
            if wanted(place):
                self.leave(connection)
                connection.end()
                return True
        return False

    def _is_proxy(self, address: str) -> bool:
        try:
            return any(ip_address(address) in proxy for proxy in self._proxies)
        except ValueError:
            return True  # no address: a socket of this machine, which only its owner reaches


def connection_limits_for(proxies: Sequence[str]) -> ConnectionLimits:
    """As many as this process's descriptors allow, whose limit is raised as far as the system lets."""
    descriptors = raise_descriptors()
    most = max(16, min(MOST, (descriptors - _RESERVED) // 2))
    return ConnectionLimits(most, max(8, most // _SHARE), proxies)


def raise_descriptors() -> int:
    """Raises this process's limit of open descriptors; how many there are then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED if hard == resource.RLIM_INFINITY else min(_WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _WANTED if soft == resource.RLIM_INFINITY else soft


def peer_of(transport: asyncio.BaseTransport) -> str:
    """The address at the other end; empty where it has none."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) and peer else ""
