"""A million requests by a simulated clock through the gateways' own code: names, loading, quotas, usage; engines and gateways die.

In: ``GATEWAYS`` gateways, each with the product's ``Reconciler`` and ``Quotas`` on one in-memory record, 60 tenants, 10,000 names with a
release each, some with two between which they move. Simulated: the clock, arrivals (bursts among them), how long answers take, when a
gateway looks at the record, commits and reads what others counted, and engines that hold a set of releases. Requests go to gateways in
turn as behind a balancer, and to the next one where one cannot answer.

Out: answers by a release that was never the name's, or that the name had left ``LEFT`` seconds before; limits passed by more than the
others had admitted and not yet counted where it could be read; requests refused although the limit had room for all that was known to be
used; use that was acknowledged and is not in the record. Each is recounted here, by plain sums. All are to be 0.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from gateway_runs import TENANTS, Site, say, tenant_name

from support.serving import House
from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import Exhausted, NotFound, Unavailable
from tailorbird.domain.identity import ApiKey, KeyLimits
from tailorbird.domain.identity import Amounts, QuotaLimits, window_start
from tailorbird.domain.value import Digest
from tailorbird.ports.engine import EngineState, LoadRequest
from tailorbird.serving.quotas import Quotas, Reservation
from tailorbird.serving.reconciler import Reconciler
from tailorbird.serving.request_log import amounts_of, usage_of

#: Requests, names, those of a tenant that move.
SIZES = {False: (1_000_000, 10_000, 4), True: (30_000, 600, 2)}
GATEWAYS, SEED = 2, 23
#: Requests a second, of all tenants; seconds between two moves, two deaths, two commits of a gateway, two readings of it.
RATE, MOVE_EVERY, DEATH_EVERY, COMMIT_EVERY, READ_EVERY = 280.0, 15.0, 150.0, 0.3, 1.0
LEFT, WRITTEN = 2.0, 64
LIMITS = (
    [QuotaLimits()] * 20
    + [QuotaLimits(requests_per_minute=200)] * 15
    + [QuotaLimits(output_tokens_per_minute=7000)] * 10
    + [QuotaLimits(requests_per_month=8000)] * 5
    + [QuotaLimits(requests_per_minute=150)] * 10
)
#: Tenants that ask in bursts, and those whose keys are limited.
BURSTS, KEYED, KEY_LIMIT = range(50, 60), range(10, 20), KeyLimits(requests_per_minute=120)


class SetClock:
    """The simulated clock, ``seconds`` after it began."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        """The simulated time, UTC."""
        return datetime(2026, 11, 30, 6, tzinfo=UTC) + timedelta(seconds=self.seconds)


class Engine:
    """An ``EngineDriver`` as far as loading goes. A load takes a turn of the event loop, which a request takes, too."""

    def __init__(self, house: House) -> None:
        self._house, self.held = house, dict[Digest, Servable | None]()

    async def load(self, request: LoadRequest) -> None:
        await asyncio.sleep(0)
        self.held[request.release] = None

    async def unload(self, release: Digest) -> None:
        self.held.pop(release, None)

    async def status(self) -> EngineState:
        return EngineState(loaded=tuple(self.held))


class Row(NamedTuple):
    """Of a request row what counts: making a whole one takes as long as all else of a request."""

    tenant: str
    key: str
    release: Digest
    at: datetime
    completion_tokens: int
    prompt_tokens: int = 8
    arm: str = "a"
    cost: float = 0.0


Window = tuple[str, str, datetime]


@dataclass
class Gateway:
    """A gateway in one of its lives: what it counted by windows, what of it is committed, what it read of the others."""

    sync: Reconciler
    quotas: Quotas
    engine: Engine
    counted: dict[Window, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    committed: Counter[Window] = field(default_factory=Counter)
    read: dict[Window, int] = field(default_factory=dict)
    ended: list[Row] = field(default_factory=list)
    alive: bool = True

    def used(self, window: Window) -> int:
        """Settled and held."""
        return sum(self.counted[window])


class Simulation:
    """``site`` is the record; ``faults`` what must not be, ``seen`` what came of requests."""

    def __init__(self, site: Site, clock: SetClock, keys: dict[str, ApiKey]) -> None:
        self.site, self.clock, self.keys, self.draw = site, clock, keys, random.Random(SEED)
        self.gateways: list[Gateway] = []
        self.dead: Counter[Window] = Counter()
        self.faults, self.seen = Counter[str](), Counter[str]()
        self.first: list[str] = []
        #: By how much windows were passed, and their limits.
        self.passed: dict[Window, tuple[int, int]] = {}
        self._events: list[tuple[float, int, Callable[[], Any]]] = []
        self._number = 0

    def at(self, seconds: float, do: Callable[[], Any]) -> None:
        """Has something happen later."""
        self._number += 1
        heapq.heappush(self._events, (seconds, self._number, do))

    async def play(self, requests: int) -> None:
        """Until so many requests have ended."""
        for _ in range(GATEWAYS):
            self.gateways.append(await self._new())
        for place in range(GATEWAYS):
            self.at(0.1 * place, lambda place=place: self._read(place))
            self.at(0.1 * place, lambda place=place: self._commit(place))
        self.at(MOVE_EVERY, self._move)
        self.at(DEATH_EVERY, self._death)
        self.at(0.5, self._looks)
        arrival, left = 0.0, requests
        while left or self.seen["open"]:
            while left and (not self._events or self._events[0][0] >= arrival):
                self.clock.seconds = arrival
                number = self.draw.randrange(TENANTS)
                burst = 120 if number in BURSTS and self.draw.random() < 0.005 else 1
                for _ in range(min(burst, left)):
                    await self._request(number)
                    left -= 1
                    if left % 50_000 == 0:
                        say(f"{requests - left} requests, {self.clock.seconds:.0f} s simulated: {dict(self.seen)} {dict(self.faults)}")
                arrival += self.draw.expovariate(RATE)
            seconds, _, do = heapq.heappop(self._events)
            self.clock.seconds = max(self.clock.seconds, seconds)
            if (doing := do()) is not None:
                await doing
        for place in range(GATEWAYS):
            await self._commit(place)
        self._compare()

    async def _new(self) -> Gateway:
        engine, quotas = Engine(self.site.house), Quotas(self.site.house.ledger, self.clock)
        made = Gateway(Reconciler(self.site.house.ledger, engine, self.clock), quotas, engine)  # type: ignore[arg-type]
        await quotas.refresh()
        self._reading(made)
        # What its tasks do by the machine's clock is done here by the simulated one.
        await made.sync._loader.refresh()
        await made.sync._look()
        return made

    # ---- requests

    async def _request(self, number: int) -> None:
        tenant = tenant_name(number)
        names = self.site.names[tenant]
        path = names[self.draw.randrange(4)] if self.draw.random() < 0.4 else self.draw.choice(names)
        first = self.draw.randrange(GATEWAYS)
        await asyncio.sleep(0)
        for turn in range(GATEWAYS):
            if await self._asked(self.gateways[(first + turn) % GATEWAYS], number, path):
                return
        self.seen["unavailable"] += 1

    async def _asked(self, gateway: Gateway, number: int, path: str) -> bool:
        tenant, at = tenant_name(number), self.clock.now()
        try:
            arm = gateway.sync.routes.resolve(tenant, path).arm_for(f"user-{self.draw.randrange(1000)}")
        except (NotFound, Unavailable):
            gateway.sync._hurry(path)
            return False
        most, key = Amounts(1, 8, WRITTEN), self.keys.get(tenant)
        windows = self._windows(tenant, at, key)
        full = [window for window, limit in windows.items() if gateway.used(window) + gateway.read.get(window, 0) + _asks(window) > limit]
        try:
            reservation = await gateway.quotas.reserve(tenant, most, at, key)
        except Exhausted:
            self.seen["refused"] += 1
            self._check(bool(full), "refused_wrongly", path)
            return True
        self._check(not full, "admitted_wrongly", path)
        for window, limit in windows.items():
            gateway.counted[window][1] += _asks(window)
            self._note(gateway, window, limit)
        if arm.release not in gateway.engine.held:
            gateway.sync.doubt(arm.path)
            self._end(gateway, reservation, list(windows), None)
            return False
        self.seen["answered"] += 1
        self.seen["open"] += 1
        self._check(self._is_right(path, arm.release), "wrong_release", f"{path} {arm.release} at {self.clock.seconds}")
        took = self.draw.uniform(2, 20) if self.draw.random() < 0.1 else self.draw.uniform(0.03, 0.3)
        row = Row(tenant, key.id if key else "k", arm.release, at, self.draw.randrange(1, WRITTEN + 1))
        self.at(self.clock.seconds + took, lambda: self._finish(gateway, reservation, list(windows), row))
        return True

    def _finish(self, gateway: Gateway, reservation: Reservation, windows: list[Window], row: Row) -> None:
        self.seen["open"] -= 1
        if gateway.alive:
            self._end(gateway, reservation, windows, row)

    def _end(self, gateway: Gateway, reservation: Reservation, windows: list[Window], row: Row | None) -> None:
        reservation.settle(amounts_of([row]) if row else Amounts())  # type: ignore[list-item]
        for window in windows:
            gateway.counted[window][1] -= _asks(window)
            gateway.counted[window][0] += _used(window, row) if row else 0
        if row:
            gateway.ended.append(row)

    def _windows(self, tenant: str, at: datetime, key: ApiKey | None) -> dict[Window, int]:
        """The windows in which the tenant, or its key, is limited, and the limits."""
        limits = LIMITS[int(tenant[-2:])]
        found = {}
        for period in ("minute", "month"):
            for name, limit in limits.of(period).items():  # type: ignore[arg-type]
                found[tenant, name, window_start(period, at)] = int(limit)  # type: ignore[arg-type]
        if key is not None:
            found[key.id, "requests", window_start("minute", at)] = KEY_LIMIT.requests_per_minute or 0
        return found

    def _note(self, gateway: Gateway, window: Window, limit: int) -> None:
        """What all have used and hold together is at most the limit and what this gateway could not know of the others."""
        everywhere = self.dead[window] + sum(each.used(window) for each in self.gateways)
        unseen = everywhere - gateway.used(window) - gateway.read.get(window, 0)
        self._check(everywhere <= limit + max(0, unseen), "quota_beyond_bound", str(window))
        if everywhere > limit:
            self.passed[window] = max(self.passed.get(window, (0, limit)), (everywhere - limit, limit))

    # ---- what happens beside them

    async def _read(self, place: int) -> None:
        gateway = self.gateways[place]
        await gateway.quotas.refresh()
        self._reading(gateway)
        self.at(self.clock.seconds + READ_EVERY, lambda: self._read(place))

    def _reading(self, gateway: Gateway) -> None:
        gateway.read = dict(self.dead)
        for other in self.gateways:
            if other is not gateway:
                for window, amount in other.committed.items():
                    gateway.read[window] = gateway.read.get(window, 0) + amount

    async def _commit(self, place: int) -> None:
        gateway, by_tenant = self.gateways[place], defaultdict[str, list[Row]](list)
        for row in gateway.ended:
            by_tenant[row.tenant].append(row)
        gateway.ended = []
        for tenant, rows in by_tenant.items():
            key = self.keys.get(tenant)
            with self.site.house.ledger.work(tenant) as work:
                work.usage.add(usage_of(rows, gateway.quotas.gateway))
            self.seen["acknowledged"] += len(rows)
            self.seen["tokens"] += sum(row.completion_tokens for row in rows)
            for row in rows:
                for window in self._windows(tenant, row.at, key):
                    gateway.committed[window] += _used(window, row)
        self.at(self.clock.seconds + COMMIT_EVERY, lambda: self._commit(place))

    def _move(self) -> None:
        path = self.draw.choice([path for path, choices in self.site.choices.items() if len(choices) > 1])
        moved = self.site.move(path)
        moved.before = moved.after = self.clock.seconds
        for place in range(GATEWAYS):
            self.at(self.clock.seconds + self.draw.uniform(0.02, 0.4), lambda place=place: self.gateways[place].sync._look())
        self.at(self.clock.seconds + MOVE_EVERY, self._move)

    async def _looks(self) -> None:
        """Gateways that load look again and again, and ask their engine what it holds where that was doubted."""
        for gateway in self.gateways:
            if gateway.sync._suspect.is_set():
                gateway.sync._suspect.clear()
                await gateway.sync._loader.refresh()
            if gateway.sync._changed.is_set():
                gateway.sync._changed.clear()
                await gateway.sync._look()
        self.at(self.clock.seconds + 0.5, self._looks)

    async def _death(self) -> None:
        """Of an engine, which is started again and holds nothing; or of a gateway with its engine, in whose place another begins."""
        place, gateway = (dead := self.draw.randrange(GATEWAYS)), self.gateways[dead]
        if self.draw.random() < 0.7:
            self.seen["engines_dead"] += 1
            gateway.engine.held = {}
        else:
            self.seen["gateways_dead"] += 1
            gateway.alive = False
            await gateway.sync._loader.stop()
            self.dead += gateway.committed
            self.gateways[place] = Gateway(gateway.sync, gateway.quotas, gateway.engine)  # counted no more
            self.gateways[place] = await self._new()
        self.at(self.clock.seconds + DEATH_EVERY, self._death)

    # ---- what is right

    def _check(self, right: bool, fault: str, about: str) -> None:
        if not right:
            self.faults[fault] += 1
            if self.faults[fault] <= 3:
                self.first.append(f"{fault}: {about}, {self.clock.seconds:.1f} s")

    def _is_right(self, path: str, release: Digest) -> bool:
        moves, now = self.site.moves[path], self.clock.seconds
        left = [moves[place + 1].after if place + 1 < len(moves) else now for place, one in enumerate(moves) if one.release == release]
        return bool(left) and now - left[-1] <= LEFT

    def _compare(self) -> None:
        """What the record counts is what was acknowledged."""
        used = Amounts()
        for tenant in self.site.names:
            with self.site.house.ledger.work(tenant, write=False) as work:
                used = used.plus(work.usage.used("month", window_start("month", self.clock.now())))
        self.faults["use_lost"] += abs(used.requests - self.seen["acknowledged"]) + abs(used.output_tokens - self.seen["tokens"])


def _asks(window: Window) -> int:
    return WRITTEN if window[1] == "output_tokens" else 1


def _used(window: Window, row: Row) -> int:
    return row.completion_tokens if window[1] == "output_tokens" else 1


def simulated(quick: bool) -> dict[str, Any]:
    """The bar: everything that must not be, counted."""
    requests, names, movable = SIZES[quick]
    with tempfile.TemporaryDirectory(prefix="gateways-") as folder:
        started, clock = time.monotonic(), SetClock()
        house = House(Path(folder), new=False, ledger_kind="memory")
        house.clock = clock  # type: ignore[assignment]
        site = Site(house, Path(folder), "")
        site.furnish(names, movable, LIMITS)
        keys = {}
        for tenant in map(tenant_name, KEYED):
            with house.ledger.work(tenant, write=False) as work:
                (key,) = work.keys.all()
            keys[tenant] = key.model_copy(update={"limits": KEY_LIMIT})
        say(f"{names} names after {time.monotonic() - started:.0f} s")
        run = Simulation(site, clock, keys)
        asyncio.run(run.play(requests))
    faults = sum(run.faults.values())
    most = max(run.passed.items(), key=lambda one: one[1][0] / one[1][1], default=None)
    return {
        "value": faults, "bar": 0, "unit": "faults", "less_is_better": True, "holds": not faults, "faults": dict(run.faults),
        "requests": requests, "names": names, "seen": dict(run.seen), "simulated_seconds": round(clock.seconds), "first_faults": run.first,
        "windows_passed": len(run.passed), "passed_most": [str(most[0]), *most[1]] if most else None,
        "moves": sum(len(moves) - 1 for moves in site.moves.values()), "seconds": round(time.monotonic() - started),
    }  # fmt: skip
