"""Money of the month at endpoints: what a tenant has paid, by the record and under way, and what may still be begun."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import TypeVar

from tailorbird.domain.endpoint import Endpoint
from tailorbird.domain.errors import AnswerLost, Exhausted, TailorbirdError
from tailorbird.domain.quota import window_start

_log = logging.getLogger("tailorbird.serving")

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
