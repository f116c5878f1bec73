"""The twin of an engine replica: every request ends once, in the order and time of the engine's own schedule."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.capacity import TIMINGS, traffic
from tailorbird.inference.blocking_call import WAITING as ENGINE_WAITING
from tailorbird.inference.blocking_call import WAITING_EACH as ENGINE_WAITING_EACH
from tailorbird.inference.scheduling import BLOCK as ENGINE_BLOCK
from tailorbird.inference.scheduling import SchedulerLimits
from tailorbird.planning import replica_simulation as twin
from tailorbird.planning.replica_simulation import ReplicaBudget, ReplicaSimulation, RequestOutcome, StepClock
from tailorbird.planning.request_trace import TracedRequest, request_trace

BIG = ReplicaBudget(memory_mb=4096, kv_mb=1024)


def simulated(*requests: TracedRequest, adapters: int = 4, budget: ReplicaBudget = BIG) -> list[RequestOutcome]:
    return ReplicaSimulation(TIMINGS, (16,) * adapters, budget).run(sorted(requests))


def asked(arrival: float = 0.0, adapter: int = 0, tenant: int = 0, prompt: int = 40, answer: int = 5) -> TracedRequest:
    return TracedRequest(arrival, adapter, tenant, prompt, 0, answer)


requests = st.lists(
    st.builds(
        TracedRequest,
        arrival=st.floats(0, 20),
        adapter=st.integers(0, 9),
        tenant=st.integers(0, 3),
        prompt=st.integers(40, 1500),
        shared=st.integers(0, 39),
        answer=st.integers(1, 60),
    ),
    max_size=60,
)


def test_its_limits_are_those_of_the_engine() -> None:
    limits = SchedulerLimits()
    assert (limits.running, limits.prefill, limits.alone) == (twin.RUNNING, twin.PREFILL, twin.ALONE)
    assert (twin.BLOCK, twin.WAITING, twin.WAITING_EACH) == (ENGINE_BLOCK, ENGINE_WAITING, ENGINE_WAITING_EACH)


def test_a_lone_request_takes_its_steps_one_after_another() -> None:
    (only,) = simulated(asked(prompt=40, answer=3))
    pass_40 = 0.03 + 24 * 0.05 / 48
    first = pass_40 + 0.0005 + 0.0008 + 0.002 + TIMINGS.context_seconds * 40 * 20 + 0.005
    later = [0.018 + 0.0005 + 0.0008 + TIMINGS.context_seconds * (40 + made + 0.5) for made in (1, 2)]
    assert only.first == pytest.approx(first)
    assert only.ended == pytest.approx(first + sum(later))


def test_a_long_prompt_is_read_in_parts_beside_an_answer() -> None:
    writer, reader = simulated(asked(answer=400), asked(arrival=0.5, prompt=1000, answer=1))
    assert writer.ended is not None
    assert reader.ended is not None
    # Four steps of 256 tokens at most, each beside one token of the answer that goes on; alone it would be one step.
    assert 3.9 * 0.28 < reader.ended - 0.5 < 4.6 * 0.28
    (alone,) = simulated(asked(prompt=1000, answer=1))
    assert alone.ended is not None
    assert alone.ended > 0.9 * 1.2


def test_the_tenant_that_got_least_is_next() -> None:
    crowd = [asked(tenant=0, prompt=400, answer=40) for _ in range(150)]
    late = asked(arrival=0.1, tenant=1, prompt=40, answer=1)
    *_, last = simulated(*crowd, late)
    assert last.ended is not None
    assert sum(one.first is not None and one.first > last.ended for one in simulated(*crowd, late)) > 75


@given(requests, st.integers(400, 700), st.integers(40, 1024))
@settings(max_examples=60, deadline=None)
def test_every_request_ends_once_or_is_refused(coming: list[TracedRequest], memory_mb: int, kv_mb: int) -> None:
    outcomes = ReplicaSimulation(TIMINGS, (16,) * 10, ReplicaBudget(memory_mb, kv_mb)).run(sorted(coming))
    assert [one.request for one in outcomes] == sorted(coming)
    for one in outcomes:
        assert (one.first is None) == (one.ended is None)
        if one.first is not None and one.ended is not None:
            assert one.request.arrival < one.first <= one.ended
        else:
            assert one.request.prompt + one.request.answer > 16 * (int(kv_mb * 45) // 16 - 1)


@given(requests)
@settings(max_examples=30, deadline=None)
def test_nothing_is_loaded_where_every_adapter_fits(coming: list[TracedRequest]) -> None:
    assert not any(one.missed for one in simulated(*coming, adapters=10))


@given(requests)
@settings(max_examples=30, deadline=None)
def test_the_same_requests_end_the_same(coming: list[TracedRequest]) -> None:
    tight = ReplicaBudget(400, 64)
    assert simulated(*coming, adapters=10, budget=tight) == simulated(*coming, adapters=10, budget=tight)


def test_what_waits_for_one_adapter_is_one_load() -> None:
    tight = ReplicaBudget(331 + 20, 1024)
    outcomes = simulated(asked(adapter=0), asked(arrival=0.01, adapter=0), asked(arrival=0.02, adapter=3), budget=tight)
    assert [one.missed for one in outcomes] == [True, False, False]
    first, second, there = (one.first or 0.0 for one in outcomes)
    assert there < first
    assert min(first, second) > 0.08


def test_beyond_the_last_point_a_pass_goes_on_with_its_slope() -> None:
    clock = StepClock(TIMINGS, (16,))
    assert [clock.passed(tokens) for tokens in (1, 16, 1024)] == [0.018, 0.03, 1.2]
    assert clock.passed(2048) == pytest.approx(1.2 + 1024 * (1.2 - 0.28) / 768)


def test_a_trace_is_the_same_for_its_seed_and_as_asked() -> None:
    asked_for = traffic(arrivals={"per_second": 5}, adapters={"count": 10}, popularity={"zipf": 1, "tenants": {"acme": 3, "globex": 1}})
    trace = request_trace(asked_for, 2000, seed=3)
    assert trace == request_trace(asked_for, 2000, seed=3) != request_trace(asked_for, 2000, seed=4)
    assert len(trace) == pytest.approx(10_000, rel=0.05)
    assert sum(one.tenant == 0 for one in trace) / len(trace) == pytest.approx(0.75, abs=0.02)
    assert all(one.adapter % 2 == one.tenant for one in trace)
    first, second = (sum(one.adapter == adapter for one in trace) for adapter in (0, 2))
    assert first / second == pytest.approx(2, rel=0.1)
    assert sum(one.prompt for one in trace) / len(trace) == pytest.approx(100, rel=0.03)


def test_bursts_come_as_one() -> None:
    trace = request_trace(traffic(arrivals={"per_second": 5, "burst": 8}), 2000)
    assert len(trace) % 8 == 0
    assert len({one.arrival for one in trace}) == len(trace) // 8
    assert len(trace) == pytest.approx(10_000, rel=0.1)
