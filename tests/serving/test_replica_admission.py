"""Which request goes on where replicas are full: each tenant in its turn, over all replicas, and nothing waits for nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from support.serving import digest
from tailorbird.domain.engine_replica import ReplicaDrain
from tailorbird.domain.errors import Exhausted
from tailorbird.domain.value import Digest
from tailorbird.ports.engine import EngineDriver
from tailorbird.serving.engine_replica import EngineReplica
from tailorbird.serving.replica_admission import ReplicaAdmission

TENANTS = "abcd"


def replica(address: str, *releases: Digest) -> EngineReplica:
    made = EngineReplica(cast(EngineDriver, None), address)
    for release in releases:
        made.hold(release)
    return made


def admission(replicas: list[EngineReplica], most: int) -> ReplicaAdmission:
    return ReplicaAdmission(replicas, lambda release: [one for one in replicas if one.answers_for(release)], Random(5), most)


@dataclass(eq=False)
class Request:
    tenant: str
    release: Digest
    number: int
    task: asyncio.Task[EngineReplica | None] = field(repr=False)


class Desk(RuleBasedStateMachine):
    """Requests of four tenants for two releases each at three replicas that hold some of them. The model counts."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.waiting: list[Request] = []
        self.running: list[tuple[Request, EngineReplica]] = []
        self.number = 0

    @initialize(held=st.lists(st.sets(st.integers(0, 7)), min_size=3, max_size=3), most=st.integers(1, 3), gateways=st.integers(1, 3))
    def open(self, held: list[set[int]], most: int, gateways: int) -> None:
        self.releases = [digest(f"{tenant}-{n}") for tenant in TENANTS for n in range(2)]
        self.replicas = [replica(str(n), *(self.releases[place] for place in places)) for n, places in enumerate(held)]
        self.most, self.admission = most, admission(self.replicas, most)
        self.admission.gateways = gateways

    def teardown(self) -> None:
        for request in self.waiting:
            request.task.cancel()
        self.settle()
        self.loop.close()

    def settle(self) -> None:
        """Lets tasks go on, and books what has become of them, in the order in which it did."""
        for _ in range(4):
            self.loop.run_until_complete(asyncio.sleep(0))
        for request in [request for request in self.waiting if request.task.done()]:
            self.waiting.remove(request)
            if not request.task.cancelled() and (found := request.task.result()) is not None:
                self.running.append((request, found))

    def holders(self, release: Digest) -> list[EngineReplica]:
        return [one for one in self.replicas if one.answers_for(release)]

    def able(self) -> list[Request]:
        return [one for one in self.waiting if any(map(self.admission.has_room, self.holders(one.release)))]

    def under_way(self) -> Counter[str]:
        return Counter(request.tenant for request, _ in self.running)

    @rule(tenant=st.sampled_from(TENANTS), release=st.integers(0, 1))
    def come(self, tenant: str, release: int) -> None:
        asked = self.releases[2 * TENANTS.index(tenant) + release]
        self.number += 1
        self.waiting.append(Request(tenant, asked, self.number, self.loop.create_task(self.admission.enter(tenant, asked))))
        self.settle()

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data: Any) -> None:
        """Of those that could go on then, one of a tenant with the fewest under way does; of these the first that came."""
        request, place = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        counts, before = self.under_way(), set(self.waiting)
        place.end(request.release)
        able = self.able()
        place.begin(request.release)
        self.admission.leave(place, request.tenant, request.release)
        self.settle()
        gone_on = [one for one, _ in self.running if one in before]
        if able:
            fewest = min(counts[one.tenant] for one in able)
            first = min((one for one in able if counts[one.tenant] == fewest), key=lambda one: one.number)
            assert gone_on == [first]
        else:
            assert gone_on == []

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def give_up(self, data: Any) -> None:
        self.waiting[data.draw(st.integers(0, len(self.waiting) - 1))].task.cancel()
        self.settle()

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end_and_give_up_at_once(self, data: Any) -> None:
        """A request is given up in the moment in which its turn comes: its place goes to another."""
        request, place = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        self.admission.leave(place, request.tenant, request.release)
        for one in self.waiting[: data.draw(st.integers(0, 2))]:
            one.task.cancel()
        self.settle()

    @rule(place=st.integers(0, 2), release=st.integers(0, 7))
    def hold(self, place: int, release: int) -> None:
        self.replicas[place].hold(self.releases[release])
        self.admission.admit()
        self.settle()

    @rule(place=st.integers(0, 2), drained=st.booleans())
    def drain(self, place: int, drained: bool) -> None:
        self.replicas[place].drain = ReplicaDrain(address=str(place), forced=True) if drained else None
        self.admission.admit()
        self.settle()

    @rule(place=st.integers(0, 2), elsewhere=st.integers(0, 4))
    def hear(self, place: int, elsewhere: int) -> None:
        self.replicas[place].elsewhere = elsewhere
        self.admission.admit()
        self.settle()

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        if hasattr(self, "replicas"):
            assert self.able() == []

    @invariant()
    def counts_are_right(self) -> None:
        if hasattr(self, "replicas"):
            at = Counter(place.address for _, place in self.running)
            assert {one.address: one.busy for one in self.replicas} == {one.address: at[one.address] for one in self.replicas}
            assert all(one.busy <= max(self.most, 1) for one in self.replicas)


Desk.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestDesk = Desk.TestCase


@pytest.mark.parametrize("flooding", [1, 3])
def test_whoever_has_nothing_under_way_is_next_however_many_others_wait(flooding: int) -> None:
    """What goes on ahead of a quiet tenant is counted: nothing that came before it and waits, however much that is."""
    quiet, floods = digest("quiet"), [digest(f"flood {number}") for number in range(flooding)]

    async def story() -> None:
        replicas = [replica(str(number), quiet, *floods) for number in range(2)]
        desk, running = admission(replicas, 4), list[tuple[str, Digest, EngineReplica]]()

        async def ask(tenant: str, release: Digest) -> None:
            found = await desk.enter(tenant, release)
            assert found is not None
            running.append((tenant, release, found))

        async def end(place: int) -> str:
            """Ends a request; whose goes on in its place."""
            tenant, release, found = running.pop(place)
            desk.leave(found, tenant, release)
            await asyncio.sleep(0)
            return running[-1][0]

        asking = [asyncio.create_task(ask(f"flood {n}", release)) for _ in range(80) for n, release in enumerate(floods)]
        await asyncio.sleep(0)
        for _ in range(20):
            asking.append(asyncio.create_task(ask("quiet", quiet)))
            await asyncio.sleep(0)
            assert len(running) == 8
            assert await end(0) == "quiet"
            assert await end(-1) != "quiet"
        while running:
            await end(0) if len(running) > 1 else desk.leave(running[0][2], *running.pop()[:2])
        await asyncio.gather(*asking)

    asyncio.run(story())


def test_tenants_that_flood_hold_as_much_as_each_other() -> None:
    """One came first with everything, the other asks for another release: soon each has half of the room."""
    early, late = digest("early"), digest("late")

    async def story() -> None:
        replicas = [replica(str(number), early, late) for number in range(2)]
        desk, running = admission(replicas, 4), list[tuple[str, Digest, EngineReplica]]()

        async def ask(tenant: str, release: Digest) -> None:
            found = await desk.enter(tenant, release)
            assert found is not None
            running.append((tenant, release, found))

        asking = [asyncio.create_task(ask("early", early)) for _ in range(40)]
        await asyncio.sleep(0)
        asking += [asyncio.create_task(ask("late", late)) for _ in range(40)]
        await asyncio.sleep(0)
        assert Counter(tenant for tenant, _, _ in running) == {"early": 8}
        for _ in range(8):
            tenant, release, place = running.pop(0)
            desk.leave(place, tenant, release)
            await asyncio.sleep(0)
        assert Counter(tenant for tenant, _, _ in running) == {"early": 4, "late": 4}
        while running:
            tenant, release, place = running.pop(0)
            desk.leave(place, tenant, release)
            await asyncio.sleep(0)
        await asyncio.gather(*asking)

    asyncio.run(story())


def test_a_gateway_takes_its_part_and_what_others_leave() -> None:
    one = replica("1", digest("release"))
    desk = admission([one], 12)
    desk.gateways = 3
    for elsewhere, room in ((0, 12), (5, 7), (8, 4), (12, 4), (40, 4)):
        one.elsewhere = elsewhere
        one.busy = room - 1
        assert desk.has_room(one)
        one.busy = room
        assert not desk.has_room(one), elsewhere


def test_more_than_a_tenant_may_have_waiting_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailorbird.serving.replica_admission._WAITING_EACH", 3)
    monkeypatch.setattr("tailorbird.serving.replica_admission._WAITING", 5)
    release = digest("release")

    async def story() -> None:
        desk = admission([replica("1", release)], 1)
        asking = [asyncio.create_task(desk.enter(tenant, release)) for tenant in "aaaaabbbb"]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        refused = [task for task in asking if task.done() and isinstance(task.exception(), Exhausted)]
        # One is under way, three of a and two of b wait.
        assert [asking.index(task) for task in refused] == [4, 7, 8]
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    asyncio.run(story())


def test_whoever_could_go_on_is_not_refused_for_those_that_wait_for_another_replica(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailorbird.serving.replica_admission._WAITING_EACH", 2)
    monkeypatch.setattr("tailorbird.serving.replica_admission._WAITING", 2)
    full, idle = digest("full"), digest("idle")

    async def story() -> None:
        one, other = replica("1", full), replica("2", idle)
        desk = admission([one, other], 1)
        waiting = [asyncio.create_task(desk.enter("a", full)) for _ in range(3)]
        await asyncio.sleep(0)
        assert desk.waiting == 2
        assert await desk.enter("a", idle) is other
        desk.leave(other, "a", idle)
        assert await desk.enter("b", idle) is other
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(story())


def test_a_few_tenants_that_fill_the_room_do_not_shut_out_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailorbird.serving.replica_admission._WAITING", 4)
    release = digest("release")

    async def story() -> None:
        one = replica("1", release)
        desk = admission([one], 1)
        asking = [asyncio.create_task(desk.enter(tenant, release)) for tenant in "aaabbb"]
        await asyncio.sleep(0)
        quiet = asyncio.create_task(desk.enter("c", release))
        await asyncio.sleep(0)
        with pytest.raises(Exhausted):
            await desk.enter("c", release)
        assert desk.waiting == 5
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        desk.leave(one, "a", release)
        assert await asyncio.wait_for(quiet, 5) is one

    asyncio.run(story())


def test_who_waits_for_what_no_replica_may_answer_any_more_is_told_while_all_are_full() -> None:
    kept, gone = digest("kept"), digest("gone")

    async def story() -> None:
        one = replica("1", kept, gone)
        desk = admission([one], 1)
        assert await desk.enter("a", kept) is one
        waiting = asyncio.create_task(desk.enter("b", gone))
        await asyncio.sleep(0)
        one.drop(gone)
        desk.admit()
        assert await asyncio.wait_for(waiting, 5) is None

    asyncio.run(story())
