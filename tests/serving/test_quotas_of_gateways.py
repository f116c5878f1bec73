"""Several gateways on one record pass a limit by what they could not know of each other, and refuse nothing that they had room for."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from support.serving import House, digest
from tailorbird.domain.deployment import RequestRow
from tailorbird.domain.errors import Exhausted
from tailorbird.domain.identity import Amounts, ApiKey, KeyLimits, QuotaLimits, window_start
from tailorbird.serving.quotas import Quotas, Reservation
from tailorbird.serving.request_log import usage_of

LIMIT = 4
GATEWAYS = st.integers(0, 1)


class Life:
    """A gateway in one of its lives, and by plain sums what it holds, has settled and committed, and read of the others, in a minute."""

    def __init__(self, house: House) -> None:
        self.quotas = Quotas(house.ledger, house.clock)
        self.held, self.settled, self.committed, self.read = 0, 0, 0, 0
        self.ended: list[RequestRow] = []

    @property
    def known(self) -> int:
        return self.held + self.settled + self.read


Open = tuple[Life, Reservation, int]


class Gateways(RuleBasedStateMachine):
    """Requests of a tenant with a limit at two gateways, which commit and read when they like, and die."""

    open = Bundle("open")
    limits, key_limits = QuotaLimits(requests_per_minute=LIMIT), KeyLimits()

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.house = House(Path(self.folder.name))
        with self.house.ledger.system() as system:
            tenant = system.tenants.get("acme")
            system.tenants.replace(tenant.model_copy(update={"limits": self.limits}))
        self.key: ApiKey = self.house.key()[0].model_copy(update={"limits": self.key_limits})
        self.dead, self.number, self.minute = 0, 0, 0
        self.lives = [Life(self.house) for _ in range(2)]
        for life in self.lives:
            asyncio.run(life.quotas.refresh())

    def teardown(self) -> None:
        self.house.ledger.close()
        self.folder.cleanup()

    def everywhere(self) -> int:
        return self.dead + sum(life.held + life.settled for life in self.lives)

    @rule(target=open, place=GATEWAYS)
    def ask(self, place: int) -> Open | None:
        life = self.lives[place]
        try:
            reservation = asyncio.run(life.quotas.reserve("acme", Amounts(1), self.house.clock.now(), self.key))
        except Exhausted:
            assert life.known + 1 > LIMIT, "there was room for it"
            return None
        assert life.known + 1 <= LIMIT
        unseen = self.everywhere() - life.known
        life.held += 1
        assert self.everywhere() <= LIMIT + unseen
        return life, reservation, self.minute

    @rule(taken=consumes(open))
    def end(self, taken: Open | None) -> None:
        if taken is None or taken[0] not in self.lives or taken[2] != self.minute:
            return
        life, reservation, _ = taken
        reservation.settle(Amounts(1))
        life.held, life.settled, self.number = life.held - 1, life.settled + 1, self.number + 1
        life.ended.append(
            RequestRow(
                id=f"req_{self.number}", tenant="acme", key=self.key.id, alias="acme/routing", release=digest(1), arm="a",
                route="/v1", status=200, outcome="ok", error=None, prediction=None, prompt_tokens=0, completion_tokens=0, latency_ms=1.0,
                at=self.house.clock.now(),
            )
        )  # fmt: skip

    @rule(place=GATEWAYS)
    def commit(self, place: int) -> None:
        life = self.lives[place]
        with self.house.ledger.work("acme") as work:
            work.usage.add(usage_of(life.ended, life.quotas.gateway))
        life.committed, life.ended = life.committed + len(life.ended), []

    @rule(place=GATEWAYS)
    def read(self, place: int) -> None:
        life = self.lives[place]
        asyncio.run(life.quotas.refresh())
        life.read = self.dead + sum(other.committed for other in self.lives if other is not life)

    @rule(place=GATEWAYS)
    def kill(self, place: int) -> None:
        """What it had committed stays counted; another takes its place."""
        self.dead += self.lives[place].committed
        self.lives[place] = Life(self.house)
        self.read(place)

    @rule()
    def wait(self) -> None:
        """The next minute, in which nobody has used anything; what is under way was counted in the one before."""
        for place in range(2):
            self.commit(place)
        self.house.clock.advance(timedelta(minutes=1))
        self.dead, self.minute = 0, self.minute + 1
        for life in self.lives:
            life.held, life.settled, life.committed, life.read = 0, 0, 0, 0

    @invariant()
    def what_was_committed_is_in_the_record(self) -> None:
        with self.house.ledger.system(write=False) as system:
            found = system.usage.by_others("", {"minute": window_start("minute", self.house.clock.now())}, {})
        assert sum(amounts.requests for amounts in found.values()) == self.dead + sum(life.committed for life in self.lives)


class GatewaysOfKey(Gateways):
    """The same where the key alone is limited."""

    limits, key_limits = QuotaLimits(), KeyLimits(requests_per_minute=LIMIT)


TestGateways = Gateways.TestCase
TestGatewaysOfKey = GatewaysOfKey.TestCase
TestGateways.settings = TestGatewaysOfKey.settings = settings(max_examples=20, stateful_step_count=30, deadline=None)
