"""Limits: nothing passes them, nothing held is forgotten, and what the record says is what was counted, whoever is killed."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from support.serving import House, digest
from tailorbird.domain.deployment import RequestRow
from tailorbird.domain.errors import Exhausted, Forbidden
from tailorbird.domain.identity import NOTHING, Amounts, QuotaLimits, window_start
from tailorbird.serving.quotas import Quotas, Reservation
from tailorbird.serving.request_log import amounts_of, usage_of

LIMITS = QuotaLimits(requests_per_minute=5, input_tokens_per_minute=100, output_tokens_per_month=80, money_per_month=1.0)


def limit(house: House, limits: QuotaLimits = LIMITS, **changes: object) -> None:
    with house.ledger.system() as system:
        tenant = system.tenants.get("acme")
        system.tenants.replace(tenant.model_copy(update={"limits": limits} | changes))


def row(house: House, number: int, used: Amounts) -> RequestRow:
    return RequestRow(
        id=f"req_{number}", tenant="acme", key="k", alias="acme/routing", release=digest(1), arm="a", route="/v1", status=200, outcome="ok",
        error=None, prediction=None, prompt_tokens=used.input_tokens, completion_tokens=used.output_tokens, latency_ms=1.0,
        at=house.clock.now(), cost=used.money,
    )  # fmt: skip


class Traffic(RuleBasedStateMachine):
    """Requests of one tenant that come, end, are aborted; gateways that are killed; minutes that pass. The model is plain sums."""

    open = Bundle("open")

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.house = House(Path(self.folder.name))
        limit(self.house)
        self.number = 0
        self.minute, self.month = NOTHING, NOTHING
        self.quotas = self._gateway()
        self.held: dict[int, Amounts] = {}

    def teardown(self) -> None:
        self.house.ledger.close()
        self.folder.cleanup()

    def _gateway(self) -> Quotas:
        quotas = Quotas(self.house.ledger, self.house.clock)
        asyncio.run(quotas.refresh())
        return quotas

    @rule(target=open, read=st.integers(0, 60), written=st.integers(0, 40))
    def ask(self, read: int, written: int) -> tuple[int, Reservation, Amounts, object] | None:
        most, held = Amounts(1, read, written), NOTHING
        for amounts in self.held.values():
            held = held.plus(amounts)
        minute, month = self.minute.plus(held), self.month.plus(held)
        fits = (
            minute.requests + 1 <= 5
            and minute.input_tokens + read <= 100
            and month.output_tokens + written <= 80
            and self.month.money < 1.0
        )
        try:
            reservation = asyncio.run(self.quotas.reserve("acme", most, self.house.clock.now()))
        except Exhausted:
            assert not fits
            return None
        assert fits
        self.number += 1
        self.held[self.number] = most
        return self.number, reservation, most, self.quotas

    @rule(taken=consumes(open), share=st.floats(0, 1), money=st.floats(0, 0.3))
    def end(self, taken: tuple[int, Reservation, Amounts, object] | None, share: float, money: float) -> None:
        """However it ends: with all it reserved, or, aborted, with a part of it. The row and the count are one transaction."""
        if taken is None or taken[3] is not self.quotas:
            return
        number, reservation, most, _ = taken
        used = Amounts(1, int(most.input_tokens * share), int(most.output_tokens * share), money)
        left = row(self.house, number, used)
        assert amounts_of([left]) == used
        reservation.settle(used)
        reservation.settle(used)
        with self.house.ledger.work("acme") as work:
            work.requests.add([left])
            work.usage.add(usage_of([left], self.quotas.gateway))
        del self.held[number]
        self.minute, self.month = self.minute.plus(used), self.month.plus(used)

    @rule()
    def kill(self) -> None:
        """What was reserved dies with the gateway; what was settled does not."""
        self.held = {}
        self.quotas = self._gateway()

    @rule()
    def read(self) -> None:
        asyncio.run(self.quotas.refresh())

    @rule()
    def wait(self) -> None:
        """Nothing is under way when the minute ends, so that the model need not know in which minute it was reserved."""
        if not self.held:
            self.house.clock.advance(timedelta(minutes=1))
            self.minute = NOTHING

    @invariant()
    def the_record_says_what_was_counted(self) -> None:
        with self.house.ledger.work("acme", write=False) as work:
            found = work.usage.used("month", window_start("month", self.house.clock.now()))
        assert found[:3] == self.month[:3]
        assert found.money == pytest.approx(self.month.money)


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)


def test_a_suspended_tenant_is_answered_nothing_and_a_new_one_at_once(house: House) -> None:
    quotas = Quotas(house.ledger, house.clock)

    async def story() -> None:
        (await quotas.reserve("acme", Amounts(1), house.clock.now())).settle(Amounts(1))
        limit(house, suspended_at=house.clock.now())
        await quotas.refresh()
        with pytest.raises(Forbidden) as refused:
            await quotas.reserve("acme", Amounts(1), house.clock.now())
        assert refused.value.error_code == "tenant_suspended"

    asyncio.run(story())


def test_a_clock_that_jumps_neither_forgets_nor_counts_twice(house: House) -> None:
    limit(house)
    quotas = Quotas(house.ledger, house.clock)

    async def story() -> None:
        start = house.clock.now()
        for _ in range(5):
            (await quotas.reserve("acme", Amounts(1), start)).settle(Amounts(1))
        house.clock.advance(timedelta(minutes=3))
        await quotas.refresh()
        await quotas.reserve("acme", Amounts(1), house.clock.now())
        house.clock.advance(timedelta(minutes=-3))
        await quotas.refresh()
        with pytest.raises(Exhausted):
            await quotas.reserve("acme", Amounts(1), house.clock.now())

    asyncio.run(story())
