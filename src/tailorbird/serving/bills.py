"""Bills: what a server outside the house is paid for one answer, or may be, whatever becomes of the answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

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
