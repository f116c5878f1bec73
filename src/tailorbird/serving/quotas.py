"""What tenants may still use: reserved before a request is worked on, settled when it has ended.

In: limits and usage from the record; what a request may use at most, what it used. Out: reservations, or Exhausted with the time to wait.
Touched only from the event loop, but for the reading of the record. Must not know: HTTP, what a request is.

What this gateway settled is written to the record with the row of the request, in one transaction; what it counts here is the same and
comes first. What other gateways and earlier lives of this one counted is read again every second: with one gateway no limit is passed
(beyond what a request used more than it had reserved), with several by what the others admit within a second.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import get_args
from uuid import uuid4

from tailorbird.domain.errors import Exhausted, Forbidden, TailorbirdError
from tailorbird.domain.identity import Tenant
from tailorbird.domain.quota import NOTHING, Amounts, Limits, Period, window_end, window_start
from tailorbird.ports.clock import Clock
from tailorbird.ports.ledger import Ledger

_log = logging.getLogger("tailorbird.serving")

#: Seconds between two readings of the record.
_READ_EVERY = 1.0
_PERIODS: tuple[Period, ...] = get_args(Period)
_WORDS = {"requests": "requests", "input_tokens": "tokens read", "output_tokens": "tokens written", "money": "money"}


@dataclass
class _Window:
    """The count of one window: settled here, held by reservations, counted by others."""

    start: datetime
    own: Amounts = NOTHING
    held: Amounts = NOTHING
    others: Amounts = NOTHING

    @property
    def used(self) -> Amounts:
        """All that is spoken for."""
        return self.own.plus(self.held).plus(self.others)


@dataclass
class _Meter:
    """One tenant's windows, by period and start: a clock that is set back finds what was counted there."""

    tenant: Tenant
    windows: dict[tuple[Period, datetime], _Window] = field(default_factory=dict)

    def at(self, period: Period, moment: datetime) -> _Window:
        """The window that holds ``moment``."""
        start = window_start(period, moment)
        return self.windows.setdefault((period, start), _Window(start))

    def forget(self, before: datetime) -> None:
        """Lets go of minutes that ended long before, and in which nothing is held."""
        old = [key for key, window in self.windows.items() if window_end(key[0], key[1]) < before and window.held == NOTHING]
        for key in old:
            del self.windows[key]


@dataclass
class Reservation:
    """What a request holds until it is settled, which it is once."""

    _windows: tuple[_Window, ...]
    _held: Amounts
    is_open: bool = True

    def settle(self, used: Amounts) -> None:
        """Puts what was used in place of what was held."""
        if self.is_open:
            self.is_open = False
            for window in self._windows:
                window.held = window.held.minus(self._held)
                window.own = window.own.plus(used)


@dataclass(frozen=True)
class Left:
    """What of a limit is left in the present minute, and when the minute ends, in seconds."""

    limit: float
    left: float
    seconds: float


class Quotas:
    """Counts between ``start`` and ``stop``. ``gateway`` names this life of this process in the record."""

    def __init__(self, ledger: Ledger, clock: Clock, read_every: float = _READ_EVERY) -> None:
        self.gateway = uuid4().hex
        self._ledger = ledger
        self._clock = clock
        self._read_every = read_every
        self._meters: dict[str, _Meter] = {}
        self._task: asyncio.Task[None] | None = None
        self._seen: tuple[object, datetime] | None = None

    async def start(self) -> None:
        """Reads the record, and begins to read it again and again."""
        await self.refresh()
        self._task = asyncio.create_task(self._keep_reading())

    async def stop(self) -> None:
        """Ends the reading."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def reserve(self, tenant: str, most: Amounts, at: datetime) -> Reservation:
        """Holds ``most`` of what ``tenant`` has left at ``at``.

        Raises Exhausted (``quota_…``) when that is less, Forbidden (``tenant_suspended``).
        """
        if tenant not in self._meters:
            await self.refresh()
        meter = self._meters.get(tenant)
        if meter is None or meter.tenant.suspended_at is not None:
            raise Forbidden(f"the tenant {tenant} is suspended", "ask the operator of this server", code="tenant_suspended")
        windows = tuple(meter.at(period, at) for period in _PERIODS)
        for period, window in zip(_PERIODS, windows, strict=True):
            _check(meter.tenant.limits, period, window, most, at)
        for window in windows:
            window.held = window.held.plus(most)
        return Reservation(windows, most)

    def policy_of(self, tenant: str) -> Tenant | None:
        """The tenant as the record had it lately."""
        meter = self._meters.get(tenant)
        return meter.tenant if meter else None

    def left(self, tenant: str, at: datetime) -> dict[str, Left]:
        """What is left of the limits that the tenant has in a minute, by what they limit."""
        meter = self._meters.get(tenant)
        if meter is None:
            return {}
        window = meter.at("minute", at)
        seconds = (window_end("minute", window.start) - at).total_seconds()
        used = window.used._asdict()
        return {name: Left(limit, max(0.0, limit - used[name]), seconds) for name, limit in meter.tenant.limits.of("minute").items()}

    async def refresh(self) -> None:
        """Reads tenants, and what others counted. What cannot be read now stays as it was."""
        starts: dict[Period, datetime] = {period: window_start(period, self._clock.now()) for period in _PERIODS}
        try:
            tenants, others = await asyncio.to_thread(self._read, starts)
        except TailorbirdError as error:
            _log.warning("limits could not be read (%s); they stay as they are", error.error_code)
            return
        self._meters = {tenant.name: self._meter(tenant, starts, others) for tenant in tenants}

    def _meter(self, tenant: Tenant, starts: Mapping[Period, datetime], others: Mapping[tuple[str, Period], Amounts]) -> _Meter:
        meter = self._meters.get(tenant.name) or _Meter(tenant)
        meter.tenant = tenant
        for period, start in starts.items():
            meter.at(period, start).others = others.get((tenant.name, period), NOTHING)
        meter.forget(starts["minute"] - timedelta(hours=1))
        return meter

    def _read(self, starts: Mapping[Period, datetime]) -> tuple[tuple[Tenant, ...], dict[tuple[str, Period], Amounts]]:
        with self._ledger.system(write=False) as system:
            return system.tenants.all(), system.usage.by_others(self.gateway, starts)

    async def _keep_reading(self) -> None:
        while True:
            await asyncio.sleep(self._read_every)
            seen = self._news()
            if seen is None or seen != self._seen:
                self._seen = seen
                await self.refresh()

    def _news(self) -> tuple[object, datetime] | None:
        """What is the same while there is nothing new to read: nothing was written, and the minute is the same. None: only the database
        can tell."""
        pulse = self._ledger.pulse()
        return (pulse, window_start("minute", self._clock.now())) if pulse else None


def _check(limits: Limits, period: Period, window: _Window, most: Amounts, at: datetime) -> None:
    """Raises Exhausted where a limit would be passed."""
    asked, used = most._asdict(), window.used._asdict()
    for name, limit in limits.of(period).items():
        # Money is known only afterwards: once the limit is reached, nothing more is begun.
        over = used[name] + asked[name] > limit or (name == "money" and used[name] >= limit)
        if over:
            wait = (window_end(period, window.start) - at).total_seconds()
            raise Exhausted(
                f"the limit of {limit:g} {_WORDS[name]} a {period} is used up",
                f"try again in {wait:.0f} s, ask for less, or ask the operator for a higher limit",
                code=f"quota_{name}",
                retry_after=max(1.0, wait),
            )
