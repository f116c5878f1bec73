"""Circuits of endpoints: a server that says nothing is asked by one request in a while, and the others do not wait for it.

A circuit breaker (Nygard 2007, "Release It!"): closed, every request asks; open, one is let through now and then; whoever is answered
closes it. What counts is silence: a server that refuses, is busy or breaks off in the middle costs nobody a timeout.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import NamedTuple, TypeVar

from tailorbird.domain.endpoint import Endpoint
from tailorbird.domain.errors import AnswerLost, Exhausted, TailorbirdError, Unavailable
from tailorbird.domain.quota import window_start

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


#: Seconds for which it is known what an endpoint was paid this month.
COUNTED_FOR = 30.0

#: What a tenant (the first) has paid an endpoint since the month began, by the record.
Paid = Callable[[str, str], float]


@dataclass
class _Account:
    """Money at one endpoint of one tenant: as the record had it when it was read, what ended here shortly before that (whose rows may have
    been written later) and since then, and what is under way.

    ``ended`` is by the month to which a request belongs, and by the half minute in which it ended."""

    recorded: float = 0.0
    read_at: float = float("-inf")
    ended: dict[tuple[datetime, int], float] = field(default_factory=dict)
    held: float = 0.0
    reading: asyncio.Task[None] | None = None

    def spoken_for(self, month: datetime) -> float:
        """All that was paid in the month, or may be."""
        return self.recorded + sum(money for (its, _), money in self.ended.items() if its == month) + self.held

    def end(self, month: datetime, money: float) -> None:
        """A request of the month has ended, and cost so much."""
        at = int(monotonic() // COUNTED_FOR)
        # No record that was read longer ago is judged by: what ended so long before it has its row.
        self.forget(at - 4)
        self.ended[month, at] = self.ended.get((month, at), 0.0) + money

    def forget(self, until: int) -> None:
        """Leaves out what ended before this half minute."""
        self.ended = {key: money for key, money in self.ended.items() if key[1] >= until}


class Charge:
    """The money of one request: held for as long as it is under way, by what it may cost at most."""

    def __init__(self, account: _Account, endpoint: Endpoint, bill: Bill, most: tuple[int, int], month: datetime) -> None:
        self._account, self._month = account, month
        self._endpoint = endpoint
        self._bill, self._before = bill, bill.paid
        self._read, self._written = most[0], 0
        self._held = endpoint.cost(*most)
        self._paid = 0.0
        self.begun = False
        bill.endpoint, bill.estimated = endpoint.name, True
        account.held += self._held
        bill.most = self._before + self._held
        self._pay(endpoint.cost(self._read, 0))

    def wrote(self, size: int) -> None:
        """The server has written so many bytes more, shown or not: until it says what they cost, a byte is a token."""
        self.begun = True
        self._written += size
        self._pay(self._endpoint.cost(self._read, self._written))

    def told(self, prompt_tokens: int, completion_tokens: int, *, estimated: bool = False) -> None:
        """The server has ended its answer, and said what it read and wrote, unless that is ``estimated``."""
        self.begun, self._bill.estimated = True, estimated
        self._pay(self._endpoint.cost(prompt_tokens, completion_tokens))

    def drop(self) -> None:
        """Nothing is paid: the server did not take the request."""
        self._bill.estimated = False
        self._pay(0.0)

    def close(self) -> None:
        """The request has ended."""
        self._account.held -= self._held
        self._bill.most = self._bill.paid
        self._account.end(self._month, self._paid)

    def _pay(self, money: float) -> None:
        """In place of what was put on the bill for this request before."""
        self._bill.paid, self._paid = self._before + money, money


class EndpointBudgets:
    """Accounts of endpoints, read from the record every half minute; while it is read, what was read before counts for half a minute more.

    With one gateway, the money of a month is passed by no more than the requests that were begun before it was used up cost beyond what
    they hold; with several, by what the others begin within a minute.
    """

    def __init__(self, paid: Paid, now: Callable[[], datetime]) -> None:
        self._paid = paid
        self._now = now
        self._accounts: dict[tuple[str, str], _Account] = {}

    async def demand(self, tenant: str, endpoint: Endpoint) -> None:
        """Returns when a request may be begun; what is held by then is counted, if the caller opens its charge at once. Raises Exhausted
        (``endpoint_budget``), and what reading the record raises."""
        most, account = endpoint.money_per_month, self._account(tenant, endpoint)
        if most is None:
            return
        age = monotonic() - account.read_at
        if age > COUNTED_FOR and (account.reading is None or account.reading.done()):
            account.reading = asyncio.create_task(self._read(tenant, endpoint, account))
            account.reading.add_done_callback(_note_unread)
        if age > 2 * COUNTED_FOR and account.reading is not None:
            await asyncio.shield(account.reading)
        if account.spoken_for(self._month()) >= most:
            raise Exhausted(
                f"the endpoint {endpoint.name} has used up its {most:g} {endpoint.currency} of this month",
                "an admin of the host raises it: tailorbird endpoint add, with the same name",
                code="endpoint_budget",
            )

    @contextmanager
    def charge(self, tenant: str, endpoint: Endpoint, most: tuple[int, int]) -> Iterator[Charge]:
        """The charge of one request of at most so many tokens, read and written, on the present bill. Where it fails before the server took
        it, nothing is paid."""
        charge = Charge(self._account(tenant, endpoint), endpoint, present_bill(), most, self._month())
        try:
            yield charge
        except TailorbirdError as error:
            if not charge.begun and not isinstance(error, AnswerLost):
                charge.drop()
            raise
        finally:
            charge.close()

    async def _read(self, tenant: str, endpoint: Endpoint, account: _Account) -> None:
        now = monotonic()
        account.recorded = await asyncio.to_thread(self._paid, tenant, endpoint.name)
        account.read_at = now
        account.forget(int(now // COUNTED_FOR) - 1)

    def _month(self) -> datetime:
        return window_start("month", self._now())

    def _account(self, tenant: str, endpoint: Endpoint) -> _Account:
        return self._accounts.setdefault((tenant, endpoint.name), _Account())


def _note_unread(reading: asyncio.Task[None]) -> None:
    """Whoever waits for the record is told that it cannot be read; where nobody does, the next one reads it."""
    if not reading.cancelled() and (error := reading.exception()) is not None:
        _log.warning("what an endpoint was paid this month could not be read (%s)", type(error).__name__)


T = TypeVar("T")


@dataclass
class Bill:
    """Money of one answer, in the currency of the settings' prices: what ``endpoint`` (empty: none was asked) was ``paid`` so far,
    ``estimated`` high where its server has not told what it read and wrote, and the ``most`` that this may come to by what is under way."""

    endpoint: str = ""
    paid: float = 0.0
    most: float = 0.0
    estimated: bool = False


_BILL: ContextVar[Bill | None] = ContextVar("bill", default=None)


async def billed(bill: Bill, pieces: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """``pieces``, whose price is put on ``bill`` while they are made: an answer that breaks off, or that nobody waits for, has one too."""
    _BILL.set(bill)
    async with aclosing(pieces):
        async for piece in pieces:
            yield piece


def present_bill() -> Bill:
    """The bill of the answer that is being made; a new one where nobody asks for it."""
    return _BILL.get() or Bill()
