"""Quotas of tenants and API keys: reserved before a request is computed, settled when it ends.

What this gateway settled is written to the record with the row of the request, in one transaction; what it counts here is the same and
comes first. What other gateways and earlier lives of this one counted is read again every second: with one gateway no limit is passed
(beyond what a request used more than it had reserved), with several by what the others have under way, and what has ended there since.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import get_args
from uuid import uuid4

from tailorbird.domain.errors import Corrupt, Exhausted, Forbidden, Unavailable
from tailorbird.domain.identity import NOTHING, Amounts, ApiKey, KeyPeriod, Period, Tenant, window_end, window_start
from tailorbird.ledger import Ledger
from tailorbird.ports.clock import Clock
from tailorbird.system.background_loop import BackgroundLoop

#: Seconds between two readings of the record.
_READ_EVERY = 1.0
_PERIODS: tuple[Period, ...] = get_args(Period)
_KEY_PERIODS: tuple[KeyPeriod, ...] = get_args(KeyPeriod)
_WORDS = {
    "requests": "requests",
    "input_tokens": "tokens read",
    "output_tokens": "tokens written",
    "tokens": "tokens read and written",
    "money": "money",
}
#: What a key's limits are in terms of the tenant's, where both are told a caller.
_TOLD_AS = {"requests": "requests", "tokens": "input_tokens"}


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


_Windows = dict[tuple[Period | KeyPeriod, datetime], _Window]


@dataclass
class _Meter:
    """The windows of a tenant or of a key, by period and start: a clock that is set back finds what was counted there."""

    windows: _Windows = field(default_factory=dict)

    def at(self, period: Period | KeyPeriod, moment: datetime) -> _Window:
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
    """Reserved amounts of a request, settled once."""

    _windows: tuple[_Window, ...]
    _held: Amounts
    is_open: bool = True

    def settle(self, used: Amounts) -> None:
        """Replaces the reserved amounts by those used."""
        if self.is_open:
            self.is_open = False
            for window in self._windows:
                window.held = window.held.minus(self._held)
                window.own = window.own.plus(used)


@dataclass(frozen=True)
class LimitRemaining:
    """Remainder of a limit in the present minute, and seconds until the minute ends."""

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
        self.loop = BackgroundLoop("limits of tenants", self.refresh, read_every)
        #: None: its row cannot be read.
        self._tenants: dict[str, Tenant | None] = {}
        #: By whose they are: a tenant's (and no key's), or a key's. By others, by the start of a window and its period, too.
        self._meters: dict[tuple[str, str], _Meter] = {}
        self._by_others: dict[tuple[tuple[str, str], datetime, str], Amounts] = {}

    async def start(self) -> None:
        """Reads the ledger, and starts the periodic refresh."""
        await self.loop.round()
        self.loop.start(self._read_every)

    async def stop(self) -> None:
        """Ends the periodic refresh."""
        await self.loop.stop()

    async def reserve(self, tenant: str, most: Amounts, at: datetime, key: ApiKey | None = None) -> Reservation:
        """Holds ``most`` of what ``tenant``, and ``key`` where it has limits of its own, have left at ``at``.

        Raises Exhausted (``quota_…``, ``key_quota_…``) when that is less, Forbidden (``tenant_suspended``), Unavailable where what may be
        used cannot be read.
        """
        if tenant not in self._tenants:
            await self._refresh()
        found = self._tenants.get(tenant)
        if found is None and tenant in self._tenants:
            hint = "the operator looks at the record: tailorbird audit verify"
            raise Unavailable(f"the limits of the tenant {tenant} cannot be read", hint, code="limits_unreadable")
        if found is None or found.suspended_at is not None:
            raise Forbidden(f"the tenant {tenant} is suspended", "ask the operator of this server", code="tenant_suspended")
        windows = list[_Window]()
        for period in _PERIODS:
            windows.append(self._window((tenant, ""), period, at))
            _check(found.limits.of(period), period, windows[-1], most, at)
        for key_period in _KEY_PERIODS if key is not None and key.limits.is_set else ():
            assert key is not None
            windows.append(self._window((tenant, key.id), key_period, at))
            _check(key.limits.of(key_period), key_period, windows[-1], most, at, of_key=True)
        for window in windows:
            window.held = window.held.plus(most)
        return Reservation(tuple(windows), most)

    def policy_of(self, tenant: str) -> Tenant | None:
        """The tenant as last read from the ledger."""
        return self._tenants.get(tenant)

    def left(self, tenant: str, at: datetime, key: ApiKey | None = None) -> dict[str, LimitRemaining]:
        """Remainder of the limits of this minute, by what they limit: the tenant's, or the key's where that is less."""
        found = self._tenants.get(tenant)
        if found is None:
            return {}
        told = _left(self._window((tenant, ""), "minute", at), found.limits.of("minute"), at)
        if key is None or (tenant, key.id) not in self._meters:
            return told
        for name, left in _left(self._meters[tenant, key.id].at("minute", at), key.limits.of("minute"), at).items():
            known = told.get(_TOLD_AS[name])
            if known is None or left.left < known.left:
                told[_TOLD_AS[name]] = left
        return told

    async def refresh(self) -> None:
        """Reads tenants, and what others counted. Raises Unavailable, Corrupt; then all stays as it was."""
        now = self._clock.now()
        starts: dict[Period, datetime] = {period: window_start(period, now) for period in _PERIODS}
        key_starts: dict[str, datetime] = {period: window_start(period, now) for period in _KEY_PERIODS}
        self._tenants, others = await asyncio.to_thread(self._read, starts, key_starts)
        begun = key_starts | {str(period): start for period, start in starts.items()}
        self._by_others = {((tenant, key), begun[period], period): counted for (tenant, key, period), counted in others.items()}
        for whose, meter in list(self._meters.items()):
            for period in _KEY_PERIODS if whose[1] else _PERIODS:
                self._window(whose, period, now)
            meter.forget(starts["minute"] - timedelta(hours=1))
            if not any(window.used != NOTHING for window in meter.windows.values()):
                del self._meters[whose]

    def _window(self, whose: tuple[str, str], period: Period | KeyPeriod, at: datetime) -> _Window:
        """A window, with what others counted in it, as the record had it lately: in a minute that has just begun that is nothing yet, and
        not what they counted in the one before."""
        window = self._meters.setdefault(whose, _Meter()).at(period, at)
        window.others = self._by_others.get((whose, window.start, period), window.others)
        return window

    def _read(
        self, starts: Mapping[Period, datetime], key_starts: Mapping[str, datetime]
    ) -> tuple[dict[str, Tenant | None], dict[tuple[str, str, str], Amounts]]:
        with self._ledger.system(write=False) as system:
            return system.tenants.all(), system.usage.by_others(self.gateway, starts, key_starts)

    async def _refresh(self) -> None:
        """As ``refresh``, for a request: what cannot be read is so for a while. Raises Unavailable."""
        try:
            await self.refresh()
        except Corrupt as error:
            raise Unavailable(error.message, error.hint, code="limits_unreadable") from error


def _check(
    limits: Mapping[str, float], period: Period | KeyPeriod, window: _Window, most: Amounts, at: datetime, *, of_key: bool = False
) -> None:
    """Raises Exhausted where a limit would be passed."""
    asked, used = _figures(most), _figures(window.used)
    for name, limit in limits.items():
        # Money is known only afterwards: once the limit is reached, nothing more is begun.
        over = used[name] + asked[name] > limit or (name == "money" and used[name] >= limit)
        if over:
            wait = (window_end(period, window.start) - at).total_seconds()
            whose, whom = (" of this API key", "an admin of your tenant") if of_key else ("", "the operator")
            raise Exhausted(
                f"the limit of {limit:g} {_WORDS[name]} a {period}{whose} is used up",
                f"try again in {wait:.0f} s, ask for less, or ask {whom} for a higher limit",
                code=f"{'key_' if of_key else ''}quota_{name}",
                retry_after=max(1.0, wait),
            )


def _left(window: _Window, limits: Mapping[str, float], at: datetime) -> dict[str, LimitRemaining]:
    seconds = (window_end("minute", window.start) - at).total_seconds()
    used = _figures(window.used)
    return {name: LimitRemaining(limit, max(0.0, limit - used[name]), seconds) for name, limit in limits.items()}


def _figures(amounts: Amounts) -> dict[str, float]:
    """What is counted, by name; of tokens also those read and written together."""
    return amounts._asdict() | {"tokens": amounts.input_tokens + amounts.output_tokens}
