"""The schedule, without a tensor: nothing lost, nothing shared across salts, memory given back, tenants served in turn."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tailorbird.inference.scheduling import BlockPool, FairQueue, Scheduler, SchedulerLimits, TokenSequence, is_full, salt_of

SALTS = {"acme": salt_of("acme", "sha256:a"), "beta": salt_of("beta", "sha256:a")}


def sequence(owner: str, length: int, room: int = 0, leaves: int = 0, first: int = 0) -> TokenSequence:
    return TokenSequence(owner, SALTS[owner], [first + token for token in range(length)], room, leaves)


def run_to_end(scheduler: Scheduler, *sequences: TokenSequence) -> None:
    for each in sequences:
        scheduler.add(each)
    while step := scheduler.plan():
        scheduler.computed(step)
        for part in step:
            if part.last:
                scheduler.end(part.sequence)


def test_what_is_watched_is_always_computed() -> None:
    scheduler = Scheduler(BlockPool(64), SchedulerLimits())
    whole = sequence("acme", 64)
    run_to_end(scheduler, whole)
    watched = TokenSequence("acme", SALTS["acme"], list(range(64)), watched=20)
    scheduler.add(watched)
    [part] = scheduler.plan()
    assert part.start == watched.cached == 16


def patient(length: int, first: int = 1000) -> TokenSequence:
    return TokenSequence("acme", SALTS["acme"], [first + token for token in range(length)], patient=True)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 40), st.integers(0, 6)), min_size=1, max_size=12), st.integers(1, 20))
def test_patient_sequences_take_little_beside_others_and_all_end(sizes: list[tuple[bool, int, int]], most: int) -> None:
    scheduler = Scheduler(BlockPool(256), SchedulerLimits(running=4, prefill=32, alone=64, patient=most, patient_every=1 + most % 3))
    written = {}
    for place, (is_patient, length, answer) in enumerate(sizes):
        made = TokenSequence("acme", SALTS["acme"], [1000 * place + token for token in range(length)], answer, patient=is_patient)
        written[id(made)] = 0
        scheduler.add(made)
    beside, ended = set[int](), 0
    while step := scheduler.plan():
        taken = sum(part.stop - part.start for part in step if part.sequence.patient and part.stop - part.start > 1)
        assert taken <= (max(most, 8) + 2 * 8 if beside else 64 + 8)
        scheduler.computed(step)
        for part in step:
            one = part.sequence
            if part.last and written[id(one)] == one.room:
                scheduler.end(one)
                beside.discard(id(one))
                ended += 1
            else:
                beside |= set() if one.patient else {id(one)}
                if part.last:
                    written[id(one)] += 1
                    one.tokens.append(7)
    assert ended == len(sizes)
    assert scheduler.running == scheduler.waiting == 0


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


def test_a_tenant_may_wait_though_four_fill_all_places() -> None:
    waiting = {f"tenant-{place}": 256 for place in range(4)}
    assert is_full(waiting, "tenant-0", 1024, 256)
    assert not is_full(waiting, "another", 1024, 256)
    assert is_full(waiting | {"another": 1024 // 5}, "another", 1024, 256)
