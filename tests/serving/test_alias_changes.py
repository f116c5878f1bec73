"""A moved alias is seen long before the next look at the record, and a record that stands still is not asked."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from support.serving import DirectDriver, House, until
from tailorbird.domain.errors import Unavailable
from tailorbird.serving import AliasSync, alias_record, alias_sync
from tailorbird.serving.alias_record import AliasChanges


class Counted:
    """A ledger that counts its transactions; ``pulse`` may be taken away, and the record too."""

    def __init__(self, house: House, has_pulse: bool = True) -> None:
        self._ledger, self._has_pulse = house.ledger, has_pulse
        self.asked = 0
        self.away = False

    def pulse(self) -> object | None:
        return self._ledger.pulse() if self._has_pulse else None

    def system(self, *, write: bool = True) -> AbstractContextManager[Any]:
        self.asked += 1
        if self.away:
            raise Unavailable("locked", "wait", code="database_busy")
        return self._ledger.system(write=write)


def moves(house: House) -> int:
    with house.ledger.system(write=False) as system:
        return system.tenants.aliases_moved()


def test_a_move_is_live_long_before_the_next_look(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alias_sync, "_LOOK_EVERY", 60.0)

    async def story() -> None:
        first, second = house.release(1), house.release(2)
        house.point("routing", first)
        watch = AliasSync(house.ledger, DirectDriver(house), house.clock)
        await watch.start()
        try:
            for release in (first, second, first, second):
                house.point("routing", release)
                await until(lambda wanted=release: (route := watch.routes.live("acme/routing")) and wanted in route.arms)  # type: ignore[misc]
        finally:
            await watch.stop()

    asyncio.run(story())


def test_a_record_that_stands_still_is_not_asked(house: House) -> None:
    async def story() -> None:
        ledger = Counted(house)
        changes = AliasChanges(ledger)  # type: ignore[arg-type]
        known = moves(house)
        for _ in range(50):
            assert not await changes.sees_a_move(known)
        await asyncio.sleep(0.05)
        assert not await changes.sees_a_move(known)
        assert ledger.asked == 1
        house.point("routing", house.release())
        assert await changes.sees_a_move(known)

    asyncio.run(story())


def test_other_commits_are_not_taken_for_moves(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    hundredths = count()
    monkeypatch.setattr(alias_record, "time", SimpleNamespace(monotonic=lambda: next(hundredths) / 100))

    async def story() -> None:
        ledger = Counted(house)
        watcher, known = AliasChanges(ledger), moves(house)  # type: ignore[arg-type]
        for number in range(50):
            house.release(number)
            assert not await watcher.sees_a_move(known)
        assert 10 <= ledger.asked <= 13, "the record changes all the time, and is asked 25 times a second"

    asyncio.run(story())


def test_a_database_without_a_pulse_is_asked_now_and_then(house: House) -> None:
    async def story() -> None:
        ledger = Counted(house, has_pulse=False)
        changes, known = AliasChanges(ledger), moves(house)  # type: ignore[arg-type]
        for _ in range(25):
            assert not await changes.sees_a_move(known)
            await asyncio.sleep(0.01)
        assert 2 <= ledger.asked <= 12
        house.point("routing", house.release())
        await asyncio.sleep(0.11)
        assert await changes.sees_a_move(known)

    asyncio.run(story())


def test_a_record_that_cannot_be_read_shows_nothing(house: House) -> None:
    async def story() -> None:
        ledger = Counted(house, has_pulse=False)
        ledger.away = True
        assert not await AliasChanges(ledger).sees_a_move(None)  # type: ignore[arg-type]

    asyncio.run(story())
