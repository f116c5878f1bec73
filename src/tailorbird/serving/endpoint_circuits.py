"""Circuits of endpoints: a server that says nothing is asked by one request in a while, and the others do not wait for it.

A circuit breaker (Nygard 2007, "Release It!"): closed, every request asks; open, one is let through now and then; whoever is answered
closes it. What counts is silence: a server that refuses, is busy or breaks off in the middle costs nobody a timeout.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from tailorbird.domain.endpoint import Endpoint
from tailorbird.domain.errors import TailorbirdError, Unavailable

_log = logging.getLogger("tailorbird.serving")

#: Requests in a row to which a server says nothing before it is not asked any more; one where it says nothing to
#: others, too.
_IN_A_ROW = 3
#: Seconds after the end of one such request, beside the timeout, within which the next one is in a row with it.
_TOGETHER = 60.0
#: Seconds until one request is let through, at first and at most: each to which nothing is said doubles them.
_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 60.0
#: Seconds after which it is no longer known that a server said nothing: a timeout takes ten minutes at most.
_FORGOTTEN = 1800.0
#: The error for a request that is not sent.
NOT_ASKED = "endpoint_not_asked"
#: Errors before anything was sent: they say nothing of the server.
_NOT_SENT = frozenset({"address_private", "endpoint_key_missing"})


class _AskedServer(NamedTuple):
    """Whom a tenant asks, and how: one that is registered otherwise is known nothing of."""

    tenant: str
    endpoint: str
    url: str
    model: str
    connection: tuple[str | None, float, bool]

    def is_same_server(self, other: _AskedServer) -> bool:
        """True where others ask the same model of the same server."""
        return (self.url, self.model) == (other.url, other.model) and self != other


@dataclass
class _Circuit:
    """``silent`` requests in a row got no word, the last at ``last``. Open ``since``, None: closed; then one request is let through at
    ``due``, and ``probing`` while it is under way. Seconds of a clock that only goes on."""

    silent: int = 0
    last: float = float("-inf")
    since: float | None = None
    pause: float = 0.0
    due: float = 0.0
    probing: bool = False


class SentRequest:
    """One request that is let through."""

    def __init__(self, answered: Callable[[], None]) -> None:
        self._answered = answered
        self.was_heard = False

    def heard(self) -> None:
        """The server has said something."""
        if not self.was_heard:
            self.was_heard = True
            self._answered()


class EndpointCircuits:
    """Which endpoints say nothing, as this gateway has seen it, for each tenant, its endpoint and model: what one tenant asks keeps none of
    the others from asking. ``not_sent`` counts the requests that were not sent. For one event loop."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._circuits: dict[_AskedServer, _Circuit] = {}
        #: When somebody got a first word last.
        self._heard_at: dict[_AskedServer, float] = {}
        self.not_sent = 0

    @property
    def open(self) -> int:
        """Endpoints that are not asked now, but by one request in a while."""
        self._forget()
        return sum(circuit.since is not None for circuit in self._circuits.values())

    @contextmanager
    def attempt(self, tenant: str, endpoint: Endpoint, model: str) -> Iterator[SentRequest]:
        """Lets one request through; its errors tell what the server said. Raises Unavailable (``endpoint_not_asked``) where it is not to be
        asked now, with the seconds until it is."""
        asked = _AskedServer(tenant, endpoint.name, endpoint.url, model, (endpoint.key, endpoint.timeout_s, endpoint.private))
        probed, began = self._admitted(asked), self._now()
        attempt = SentRequest(lambda: self._heard(asked))
        try:
            yield attempt
        except TailorbirdError as error:
            if isinstance(error, Unavailable) and error.silent:
                # A server that answered others meanwhile is there: it is slow, or many ask at once.
                if self._heard_at.get(asked, float("-inf")) <= began:
                    self._silent(asked, probed, error)
            elif error.error_code not in _NOT_SENT:
                attempt.heard()
            raise
        finally:
            if probed is not None:
                probed.probing = False

    def _admitted(self, asked: _AskedServer) -> _Circuit | None:
        """The circuit where the request is the one that is let through; None where all are."""
        circuit, now = self._circuits.get(asked), self._now()
        if circuit is None or circuit.since is None:
            return None
        if not circuit.probing and now >= circuit.due:
            circuit.probing = True
            return circuit
        self.not_sent += 1
        raise Unavailable(
            f"the endpoint {asked.endpoint} has not answered for {max(1.0, now - circuit.since):.0f} s, and is not asked for now",
            "it is asked again by itself; look whether it is up: tailorbird endpoint list",
            code=NOT_ASKED,
            retry_after=max(1.0, circuit.due - now),
        )

    def _heard(self, asked: _AskedServer) -> None:
        circuit, now = self._circuits.pop(asked, None), self._now()
        self._heard_at[asked] = now
        if circuit is None or circuit.since is None:
            return
        _log.warning("%s answers again, after %.0f s: every request asks it", _named(asked), now - circuit.since)
        for other, its in self._circuits.items():
            if asked.is_same_server(other):
                its.due = min(its.due, now)

    def _silent(self, asked: _AskedServer, probed: _Circuit | None, error: TailorbirdError) -> None:
        self._forget()
        circuit, now = self._circuits.setdefault(asked, _Circuit()), self._now()
        in_a_row = now - circuit.last <= _TOGETHER + asked.connection[1]
        circuit.silent, circuit.last = circuit.silent + 1 if in_a_row else 1, now
        if circuit.since is None:
            if circuit.silent >= self._bearable(asked):
                circuit.since, circuit.pause, circuit.due = now, _FIRST_PAUSE, now + _FIRST_PAUSE
                told = (_named(asked), circuit.silent, error.message)
                _log.warning("%s said nothing to %d requests in a row (%s): it is asked by one in a while", *told)
        elif circuit is probed:
            circuit.pause = min(2 * circuit.pause, _LONGEST_PAUSE)
            circuit.due = now + circuit.pause

    def _bearable(self, asked: _AskedServer) -> int:
        """Requests in a row to which nothing may be said."""
        elsewhere = any(its.since is not None and asked.is_same_server(other) for other, its in self._circuits.items())
        return 1 if elsewhere else _IN_A_ROW

    def _forget(self) -> None:
        now = self._now()
        self._circuits = {asked: its for asked, its in self._circuits.items() if its.probing or now - its.last < _FORGOTTEN}
        self._heard_at = {asked: at for asked, at in self._heard_at.items() if now - at < _FORGOTTEN}


def _named(asked: _AskedServer) -> str:
    return f"the model {asked.model} at the endpoint {asked.endpoint} of {asked.tenant}"
