"""The schedule, without a tensor: nothing lost, nothing shared across salts, memory given back, tenants served in turn."""

from __future__ import annotations

from collections import Counter

import pytest
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


def test_a_patient_sequence_alone_is_computed_at_once() -> None:
    scheduler = Scheduler(BlockPool(64), SchedulerLimits(patient=4))
    scheduler.add(patient(50))
    scheduler.add(patient(60, first=2000))
    assert [(part.stop, part.last) for part in scheduler.plan()] == [(50, True), (60, True)]


def test_a_sequence_does_not_wait_behind_patient_ones() -> None:
    scheduler = Scheduler(BlockPool(64), SchedulerLimits(patient=8))
    continued, late = sequence("acme", 8, room=20), sequence("acme", 30, first=500)
    scheduler.add(continued)
    scheduler.computed(scheduler.plan())
    for each in (patient(50), patient(60, first=2000), late):
        scheduler.add(each)
    continued.tokens.append(7)
    assert [(part.sequence is late, part.stop - part.start) for part in scheduler.plan()] == [(False, 1), (True, 30)]


@pytest.mark.parametrize("most", [8, 10])
@pytest.mark.parametrize("lengths", [(35, 19, 19, 19), (35,), (16, 17), (9, 9, 9), (4, 4, 4), (8, 3), (3, 50), (20, 3, 40), (1, 1, 30, 2)])
def test_few_tokens_of_a_patient_sequence_are_never_computed_alone(lengths: tuple[int, ...], most: int) -> None:
    """Products of few rows are summed in another order: a probe would not show what was recorded."""
    scheduler, every = Scheduler(BlockPool(64), SchedulerLimits(patient=most)), SchedulerLimits().patient_every
    continued, probes = sequence("acme", 8, room=200), [patient(length, first=1000 * (at + 1)) for at, length in enumerate(lengths)]
    scheduler.add(continued)
    scheduler.computed(scheduler.plan())
    for each in probes:
        scheduler.add(each)
    taken = []
    while any(probe.pending for probe in probes):
        continued.tokens.append(7)
        step = scheduler.plan()
        taken.append(sum(part.stop - part.start for part in step if part.sequence.patient))
        scheduler.computed(step)
    assert [count == 0 for count in taken] == [step % every != 1 for step in range(len(taken))]
    assert min(count for count in taken if count) >= 8
    assert max(taken) < most + 8


@pytest.mark.parametrize("ahead", range(1000, 1026))
@pytest.mark.parametrize("length", [9, 19, 100])
def test_few_tokens_of_a_patient_sequence_are_not_computed_behind_a_prompt_that_fills_a_step(length: int, ahead: int) -> None:
    scheduler = Scheduler(BlockPool(256), SchedulerLimits())
    prompt, probe = sequence("acme", ahead, room=200), patient(length, first=5000)
    for each in (prompt, probe):
        scheduler.add(each)
    taken = []
    while probe.pending:
        step = scheduler.plan()
        taken.append(sum(part.stop - part.start for part in step if part.sequence is probe))
        scheduler.computed(step)
        prompt.tokens += [7] * (not prompt.pending)
    assert all(count == 0 or count >= 8 for count in taken), taken


@pytest.mark.parametrize("length", [*range(1024, 1050), 2050])
def test_a_patient_sequence_alone_leaves_no_few_tokens(length: int) -> None:
    scheduler = Scheduler(BlockPool(256), SchedulerLimits())
    scheduler.add(probe := patient(length))
    taken = []
    while probe.pending:
        step = scheduler.plan()
        taken.append(sum(part.stop - part.start for part in step))
        scheduler.computed(step)
    assert (sum(taken), min(taken) >= 8) == (length, True), taken


def test_what_is_computed_with_other_weights_is_not_counted_as_together() -> None:
    scheduler = Scheduler(BlockPool(64), SchedulerLimits())
    continued, probes = sequence("acme", 8, room=200), [patient(length, first=1000 * length) for length in (12, 5, 17, 9)]
    for at, probe in enumerate(probes):
        probe.groups = frozenset({f"probe {at % 2}"})
    scheduler.add(continued)
    scheduler.computed(scheduler.plan())
    for probe in probes:
        scheduler.add(probe)
    taken = list[dict[frozenset[str], int]]()
    while any(probe.pending for probe in probes):
        continued.tokens.append(7)
        step = scheduler.plan()
        found = Counter[frozenset[str]]()
        for part in step:
            if part.sequence.patient:
                found[part.sequence.groups] += part.stop - part.start
        taken.append(found)
        scheduler.computed(step)
    assert all(count >= 8 for found in taken for count in found.values()), taken


def test_a_long_patient_sequence_ends_all_the_same() -> None:
    scheduler = Scheduler(BlockPool(1024), SchedulerLimits())
    continued, long = sequence("acme", 8, room=4000), patient(8000)
    scheduler.add(continued)
    scheduler.computed(scheduler.plan())
    scheduler.add(long)
    steps = 0
    while long.pending:
        continued.tokens.append(7)
        scheduler.computed(scheduler.plan())
        steps += 1
    assert 100 < steps < 500


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


def test_a_tenant_may_wait_though_four_fill_all_places() -> None:
    waiting = {f"tenant-{place}": 256 for place in range(4)}
    assert is_full(waiting, "tenant-0", 1024, 256)
    assert not is_full(waiting, "another", 1024, 256)
    assert is_full(waiting | {"another": 1024 // 5}, "another", 1024, 256)
