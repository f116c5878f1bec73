"""Money of the month at endpoints: what a tenant has paid, by the record and under way, and what may still be begun."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tailorbird.domain.endpoint import Endpoint
from tailorbird.domain.errors import AnswerLost, Exhausted, TailorbirdError
from tailorbird.serving.bills import Bill, present_bill

#: Seconds for which it is known what an endpoint was paid this month.
COUNTED_FOR = 30.0

#: What a tenant (the first) has paid an endpoint since the month began, by the record.
Paid = Callable[[str, str], float]


@dataclass
class _Account:
    """Money at one endpoint of one tenant: as the record had it when it was read, what ended here since then and in the time before that
    (whose rows may have been written later), and what is under way."""

    recorded: float = 0.0
    read_at: float = float("-inf")
    since: float = 0.0
    before: float = 0.0
    held: float = 0.0
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def spoken_for(self) -> float:
        """All that was paid, or may be."""
        return self.recorded + self.before + self.since + self.held


class Charge:
    """The money of one request: held for as long as it is under way, by what it may cost at most."""

    def __init__(self, account: _Account, endpoint: Endpoint, bill: Bill, most: tuple[int, int]) -> None:
        self._account = account
        self._endpoint = endpoint
        self._bill, self._before = bill, bill.paid
        self._read, self._written = most[0], 0
        self._held = endpoint.cost(*most)
        self._paid = 0.0
        self.begun = False
        bill.endpoint, bill.estimated = endpoint.name, True
        account.held += self._held
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
        self._account.since += self._paid

    def _pay(self, money: float) -> None:
        """In place of what was put on the bill for this request before."""
        self._bill.paid, self._paid = self._before + money, money


class EndpointBudgets:
    """Accounts of endpoints, read from the record every half minute.

    With one gateway, the money of a month is passed by no more than the requests that were begun before it was used up cost beyond what
    they hold; with several, by what the others begin within that half minute.
    """

    def __init__(self, paid: Paid) -> None:
        self._paid = paid
        self._accounts: dict[tuple[str, str], _Account] = {}

    async def demand(self, tenant: str, endpoint: Endpoint) -> None:
        """Returns when a request may be begun; what is held by then is counted, if the caller opens its charge at once. Raises Exhausted
        (``endpoint_budget``), and what reading the record raises."""
        most, account = endpoint.money_per_month, self._account(tenant, endpoint)
        if most is None:
            return
        async with account.reading:
            if time.monotonic() - account.read_at > COUNTED_FOR:
                await self._read(tenant, endpoint, account)
        if account.spoken_for >= most:
            raise Exhausted(
                f"the endpoint {endpoint.name} has used up its {most:g} {endpoint.currency} of this month",
                "an admin of the host raises it: tailorbird endpoint add, with the same name",
                code="endpoint_budget",
            )

    @contextmanager
    def charge(self, tenant: str, endpoint: Endpoint, most: tuple[int, int]) -> Iterator[Charge]:
        """The charge of one request of at most so many tokens, read and written, on the present bill. Where it fails before the server took
        it, nothing is paid."""
        charge = Charge(self._account(tenant, endpoint), endpoint, present_bill(), most)
        try:
            yield charge
        except TailorbirdError as error:
            if not charge.begun and not isinstance(error, AnswerLost):
                charge.drop()
            raise
        finally:
            charge.close()

    async def _read(self, tenant: str, endpoint: Endpoint, account: _Account) -> None:
        now, ended = time.monotonic(), account.since
        account.recorded = await asyncio.to_thread(self._paid, tenant, endpoint.name)
        account.since, account.before, account.read_at = account.since - ended, ended, now

    def _account(self, tenant: str, endpoint: Endpoint) -> _Account:
        return self._accounts.setdefault((tenant, endpoint.name), _Account())
