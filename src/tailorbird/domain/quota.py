"""Quotas of a tenant and of its API keys, and their usage."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from tailorbird.domain.value import Value

Period = Literal["minute", "month"]
#: The windows in which an API key's own limits hold.
KeyPeriod = Literal["minute", "day"]

_Count = Annotated[int, Field(ge=0, lt=2**53)]
_Money = Annotated[float, Field(ge=0, le=1e12)]


class Amounts(NamedTuple):
    """What is counted. ``money`` is in the currency of the settings' prices."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    money: float = 0.0

    def plus(self, other: Amounts) -> Amounts:
        """The sum."""
        return Amounts(
            self.requests + other.requests,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.money + other.money,
        )

    def minus(self, other: Amounts) -> Amounts:
        """The difference; money is not below zero by a rounding error."""
        money = self.money - other.money
        return Amounts(
            self.requests - other.requests,
            self.input_tokens - other.input_tokens,
            self.output_tokens - other.output_tokens,
            0.0 if -1e-9 < money < 0 else money,
        )


#: Nothing at all.
NOTHING = Amounts()


def _set_limits(limits: Value, names: Iterable[str], period: str) -> dict[str, float]:
    every = {name: getattr(limits, f"{name}_per_{period}") for name in names}
    return {name: limit for name, limit in every.items() if limit is not None}


class QuotaLimits(Value):
    """What a tenant may use in a minute and in a calendar month (UTC), and how many bytes it may have stored. None means as much as it
    likes."""

    requests_per_minute: _Count | None = None
    requests_per_month: _Count | None = None
    input_tokens_per_minute: _Count | None = None
    input_tokens_per_month: _Count | None = None
    output_tokens_per_minute: _Count | None = None
    output_tokens_per_month: _Count | None = None
    money_per_minute: _Money | None = None
    money_per_month: _Money | None = None
    storage_bytes: _Count | None = None

    def of(self, period: Period) -> dict[str, float]:
        """The limits of a period that are set, by what they limit."""
        return _set_limits(self, Amounts._fields, period)


class KeyLimits(Value):
    """What one API key may use in a minute and in a day (UTC), beside its tenant's limits. ``tokens`` are those read and those written."""

    requests_per_minute: _Count | None = None
    requests_per_day: _Count | None = None
    tokens_per_minute: _Count | None = None
    tokens_per_day: _Count | None = None

    def of(self, period: KeyPeriod) -> dict[str, float]:
        """The limits of a period that are set, by what they limit."""
        return _set_limits(self, ("requests", "tokens"), period)

    @property
    def is_set(self) -> bool:
        """True when anything is limited."""
        return any(value is not None for _, value in self)


class Storage(Value):
    """What a tenant's work has stored: artifacts, each counted once, and files of work under way."""

    artifacts: int = 0
    bytes: int = 0
    working_bytes: int = 0

    @property
    def all_bytes(self) -> int:
        """All that counts against the quota."""
        return self.bytes + self.working_bytes


class _Counted(Value):
    """What one gateway counted in the window of a period that began at ``start``."""

    gateway: str
    start: datetime
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    money: float = 0.0


class Usage(_Counted):
    """What one gateway counted for a tenant in the window of a period that began at ``start``."""

    period: Period

    @property
    def amounts(self) -> Amounts:
        """The counts."""
        return Amounts(self.requests, self.input_tokens, self.output_tokens, self.money)


class KeyUsage(_Counted):
    """What one gateway counted for an API key in the window of a period that began at ``start``."""

    key: str
    period: KeyPeriod


def window_start(period: Period | KeyPeriod, at: datetime) -> datetime:
    """When the window that holds ``at`` began: the minute, the day, or the first of the month, in UTC."""
    moment = at.astimezone(UTC).replace(second=0, microsecond=0)
    if period == "minute":
        return moment
    midnight = moment.replace(hour=0, minute=0)
    return midnight if period == "day" else midnight.replace(day=1)


def window_end(period: Period | KeyPeriod, start: datetime) -> datetime:
    """When the window that began at ``start`` ends."""
    if period == "minute":
        return start + timedelta(minutes=1)
    if period == "day":
        return start + timedelta(days=1)
    return (start + timedelta(days=32)).replace(day=1)
