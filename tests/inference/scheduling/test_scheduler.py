"""The schedule, without a tensor: nothing lost, nothing shared across salts, memory given back, tenants served in turn."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tailorbird.inference.scheduling import BLOCK, BlockPool, FairQueue, Scheduler, SchedulerLimits, TokenSequence, salt_of

SALTS = {"acme": salt_of("acme", "sha256:a"), "beta": salt_of("beta", "sha256:a")}


def sequence(owner: str, length: int, room: int = 0, leaves: int = 0, first: int = 0) -> TokenSequence:
    return TokenSequence(owner, SALTS[owner], [first + token for token in range(length)], room, leaves)


class Traffic(RuleBasedStateMachine):
    """Sequences come, go on, are cancelled and end, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(24)
        self.scheduler = Scheduler(self.pool, SchedulerLimits(running=4, prefill=24, alone=48))
        self.alive: list[TokenSequence] = []
        self.finished = 0

    @rule(
        owner=st.sampled_from(sorted(SALTS)),
        length=st.integers(1, 70),
        room=st.integers(1, 20),
        leaves=st.integers(0, 20),
        first=st.integers(0, 2),
    )
    def arrives(self, owner: str, length: int, room: int, leaves: int, first: int) -> None:
        new = sequence(owner, length, 0 if leaves else room, leaves, first)
        if self.scheduler.fits(new):
            self.scheduler.add(new)
            self.alive.append(new)

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def is_cancelled(self, data: st.DataObject) -> None:
        gone = data.draw(st.sampled_from(self.alive))
        self.scheduler.end(gone)
        self.scheduler.end(gone)
        self.alive.remove(gone)

    @rule()
    def steps(self) -> None:
        step = self.scheduler.plan()
        assert bool(step) == bool(self.alive), "somebody waits and nothing is computed"
        assert len({id(part.sequence) for part in step}) == len(step) <= 4
        written = [block for part in step for block in part.sequence.blocks[part.start // BLOCK : -(-part.stop // BLOCK)]]
        assert len(written) == len(set(written)), "two sequences write to one block"
        self.scheduler.computed(step)
        for part in step:
            assert part.start < part.stop
            if part.last:
                self._goes_on(part.sequence)

    def _goes_on(self, going: TokenSequence) -> None:
        if going.leaves or len(going.tokens) >= going.longest:
            self.scheduler.end(going)
            self.alive.remove(going)
            self.finished += 1
        else:
            going.tokens.append(7)

    @invariant()
    def memory_is_accounted_for(self) -> None:
        held = {block for each in self.alive for block in (*each.blocks, *each.leaf_blocks)}
        assert self.pool.held == len(held)
        assert self.pool.available + self.pool.held == 24
        for one in self.alive:
            for other in self.alive:
                if one.owner != other.owner:
                    assert not set(one.blocks) & set(other.blocks), "two tenants share a block"

    def teardown(self) -> None:
        for _ in range(2000):
            if not self.alive:
                break
            self.steps()
        assert not self.alive, "a sequence was never computed to its end"
        assert self.pool.held == 0


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def run_to_end(scheduler: Scheduler, *sequences: TokenSequence) -> None:
    for each in sequences:
        scheduler.add(each)
    while step := scheduler.plan():
        scheduler.computed(step)
        for part in step:
            if part.last:
                scheduler.end(part.sequence)


def test_a_beginning_is_remembered_for_its_own_salt_alone() -> None:
    scheduler = Scheduler(BlockPool(64), SchedulerLimits())
    first, again, other = sequence("acme", 50), sequence("acme", 50), sequence("beta", 50)
    run_to_end(scheduler, first)
    run_to_end(scheduler, again)
    run_to_end(scheduler, other)
    assert (first.cached, again.cached, other.cached) == (0, 48, 0)
    scheduler.forget(SALTS["acme"])
    forgotten = sequence("acme", 50)
    run_to_end(scheduler, forgotten)
    assert forgotten.cached == 0


def test_keys_of_one_tenant_with_different_groups_share_no_beginning() -> None:
    """By the time that an answer takes, one could tell which documents another was shown."""
    scheduler = Scheduler(BlockPool(64), SchedulerLimits())

    def asked_for(*groups: str) -> TokenSequence:
        return TokenSequence("acme", SALTS["acme"], list(range(50)), groups=frozenset(groups))

    cached = []
    for groups in ((), ("board",), ("board",), ("board", "sales"), ("sales", "board"), ("boardsales",), ("board\0sales",), ()):
        each = asked_for(*groups)
        run_to_end(scheduler, each)
        cached.append(each.cached)
    assert cached == [0, 0, 48, 0, 48, 0, 0, 48]
    scheduler.forget(SALTS["acme"])
    forgotten = asked_for("board")
    run_to_end(scheduler, forgotten)
    assert forgotten.cached == 0


def test_what_is_watched_is_always_computed() -> None:
    scheduler = Scheduler(BlockPool(64), SchedulerLimits())
    whole = sequence("acme", 64)
    run_to_end(scheduler, whole)
    watched = TokenSequence("acme", SALTS["acme"], list(range(64)), watched=20)
    scheduler.add(watched)
    [part] = scheduler.plan()
    assert part.start == watched.cached == 16


@given(st.lists(st.integers(1, 9), min_size=1, max_size=30))
def test_a_tenant_with_many_requests_does_not_hold_up_another(sizes: list[int]) -> None:
    queue: FairQueue[str] = FairQueue()
    for place, _ in enumerate(sizes):
        queue.add("loud", f"loud{place}")
    queue.add("quiet", "quiet")
    served = []
    for size in [*sizes, 1]:
        item = queue.next()
        assert item is not None
        owner = "quiet" if item == "quiet" else "loud"
        queue.take(owner, item)
        queue.charge(owner, size)
        served.append(item)
    assert served.index("quiet") <= 1
    assert len(served) == len(sizes) + 1


def test_who_comes_late_has_not_saved_up() -> None:
    queue: FairQueue[int] = FairQueue()
    for number in range(4):
        queue.add("early", number)
    for _ in range(3):
        item = queue.next()
        assert item is not None
        queue.take("early", item)
        queue.charge("early", 100)
    for number in range(10, 14):
        queue.add("late", number)
    order = []
    while (item := queue.next()) is not None:
        owner = "late" if item >= 10 else "early"
        queue.take(owner, item)
        queue.charge(owner, 100)
        order.append(owner)
    assert order.index("early") <= 2
