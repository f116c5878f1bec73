"""Capacity plans: more replicas never answer more slowly, adapters past the cache do, and the cliffs are told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.capacity import TIMINGS, traffic
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.plan import Prices
from tailorbird.planning import capacity
from tailorbird.planning.capacity import HOURS, MOST_REPLICAS, CapacityTwin, capacity_plan, quantile
from tailorbird.planning.replica_simulation import ReplicaSimulation, RequestOutcome
from tailorbird.planning.request_trace import TracedRequest, adapter_shares, request_trace

PRICES = Prices(per_hour=0.5, currency="EUR")


@given(st.integers(2, 12), st.integers(1, 300), st.sampled_from(["spread", "adapter"]))
@settings(max_examples=5, deadline=None)
def test_more_replicas_are_not_slower(per_second: int, adapters: int, routing: str) -> None:
    """Within noise: a replica's share of the same requests is another one."""
    engine = {"memory_mb": 1536, "routing": routing}
    twin = CapacityTwin(traffic(arrivals={"per_second": per_second}, adapters={"count": adapters}, engine=engine), TIMINGS)
    few, more = twin.reading(2), twin.reading(4)
    assert more.p95_ms <= 1.1 * few.p95_ms
    if routing == "spread":
        assert more.load == pytest.approx(few.load / 2)
    else:  # the replica with the most asked adapter may have as much to do as before
        assert more.load <= 1.1 * few.load


def test_load_goes_by_the_adapters_of_each_replica() -> None:
    """400 adapters, of which 105 fit: dealt to four replicas each has its own in memory, and answers more."""
    slow = TIMINGS.model_copy(update={"load_seconds": 0.5, "busy_load_seconds": 0.8})
    asked = {"adapters": {"count": 400}, "popularity": {"zipf": 0}, "arrivals": {"per_second": 6}}
    in_turn, own = (
        CapacityTwin(traffic(**asked, engine={"memory_mb": 1390, "routing": routing}), slow) for routing in ("spread", "adapter")
    )
    assert in_turn.resident == own.resident == 105
    assert own.most_of(4) > 2 * in_turn.most_of(4)
    calm = own.of(per_second=0.7 * own.most_of(4)).reading(4)
    assert calm.load == pytest.approx(0.7)
    assert calm.hit_rate > 0.99
    assert calm.requests_per_second == pytest.approx(0.7 * own.most_of(4), rel=0.1)
    assert in_turn.of(per_second=0.7 * own.most_of(4)).reading(4).load > 1.4


def test_the_most_asked_adapters_replica_limits_all() -> None:
    one = CapacityTwin(traffic(adapters={"count": 1}, engine={"memory_mb": 1536, "routing": "adapter"}), TIMINGS)
    assert one.most_of(4) == pytest.approx(one.most_of(1), rel=0.1)


def test_expected_shares_are_those_of_a_trace() -> None:
    asked = traffic(adapters={"count": 5}, popularity={"zipf": 1, "tenants": {"acme": 3, "globex": 1}}, arrivals={"per_second": 100})
    drawn = Counter(one.adapter for one in request_trace(asked, 200))
    assert [drawn[adapter] / drawn.total() for adapter in range(5)] == pytest.approx(adapter_shares(asked), abs=0.01)


def test_hits_fall_past_the_cache_and_answers_get_slower() -> None:
    twin = CapacityTwin(traffic(arrivals={"per_second": 5}), TIMINGS)
    assert twin.resident == 120
    within, past, far = (twin.of(adapters=count).reading(1) for count in (120, 400, 4000))
    assert within.hit_rate == 1 > past.hit_rate > far.hit_rate
    assert within.p95_ms < past.p95_ms < far.p95_ms
    assert within.load < past.load < far.load


def test_all_that_comes_is_answered_below_the_most_and_no_more_above() -> None:
    twin = CapacityTwin(traffic(), TIMINGS)
    most = twin.most_per_second
    calm, hurried = twin.of(per_second=0.8 * most).reading(1), twin.of(per_second=1.5 * most).reading(1)
    assert calm.requests_per_second == pytest.approx(0.8 * most, rel=0.1)
    assert hurried.requests_per_second == pytest.approx(most, rel=0.1)
    assert (calm.load, hurried.load) == (pytest.approx(0.8), pytest.approx(1.5))


def test_the_fewest_replicas_for_a_target_are_found() -> None:
    plan = capacity_plan(traffic(replicas=None, target={"p95_ms": 2000}, arrivals={"per_second": 12}), TIMINGS, PRICES)
    assert plan.holds
    assert plan.reading.p95_ms <= 2000 == plan.limit_ms
    fewer = CapacityTwin(traffic(arrivals={"per_second": 12}), TIMINGS).reading(plan.reading.replicas - 1)
    assert fewer.p95_ms > 2000
    assert plan.cost_per_month == pytest.approx(plan.reading.replicas * 0.5 * HOURS)
    assert [reason.rule for reason in plan.reasons] == ["timings", "cache", "load", "limit", "replicas"]


def test_the_cliffs_lie_where_readings_turn() -> None:
    asked = traffic(replicas=1, arrivals={"per_second": 4}, popularity={"zipf": 0.2})
    plan = capacity_plan(asked, TIMINGS, PRICES)
    twin = CapacityTwin(asked, TIMINGS)
    assert plan.cliff_adapters is not None
    assert 60 < plan.cliff_adapters < 1000
    assert twin.of(adapters=plan.cliff_adapters).reading(1).p95_ms <= plan.limit_ms
    assert twin.of(adapters=round(1.3 * plan.cliff_adapters)).reading(1).p95_ms > plan.limit_ms
    assert plan.cliff_per_second is not None
    assert 4 <= plan.cliff_per_second < twin.most_per_second


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"replicas": None, "target": {"p95_ms": 20}}, "traffic_target"),
        ({"engine": {"memory_mb": 335}}, "traffic_memory"),
        ({"engine": {"memory_mb": 1536, "kv_mb": 1}, "answer": {"mean": 200}}, "traffic_unanswerable"),
        ({"engine": {"memory_mb": 1536, "kv_mb": 10**6}, "answer": {"mean": 10**6, "most": 10**6}}, "traffic_long"),
    ],
)
def test_what_no_replicas_can_do_is_an_error(changes: dict[str, object], code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        capacity_plan(traffic(**changes), TIMINGS, PRICES)
    assert caught.value.error_code == code


def test_timings_that_no_machine_has_are_refused_before_anything_is_drawn_by_them() -> None:
    fast = TIMINGS.model_copy(
        update={"pass_seconds": ((1, 1e-9),)}
        | dict.fromkeys(("row_seconds", "adapter_seconds", "context_seconds", "request_seconds", "delay_seconds"), 0.0)
    )
    with pytest.raises(InvalidInput) as caught:
        capacity_plan(traffic(), fast, PRICES)
    assert caught.value.error_code == "traffic_timings"


def test_every_number_of_replicas_up_to_the_most_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rate for which 101 are begun with and 130 are enough, where a reading is bad below that."""
    asked = traffic(replicas=None, target={"p95_ms": 2000})
    twin, read, tried = CapacityTwin(asked, TIMINGS), CapacityTwin.reading, list[int]()
    plain = twin.of(per_second=1.0).reading(1)

    def reading(self: CapacityTwin, replicas: int) -> object:
        tried.append(replicas)
        if self.traffic.arrivals.per_second < 100:
            return read(self, replicas)
        return plain.model_copy(
            update={"replicas": replicas, "load": 0.5, "p95_ms": 1.0 if replicas >= 130 else 1e9, "adapters": self.traffic.adapters.count}
        )

    monkeypatch.setattr(CapacityTwin, "reading", reading)
    many = twin.of(per_second=100.5 * twin.most_per_second).traffic
    assert capacity_plan(many, TIMINGS, PRICES).reading.replicas == 130
    assert MOST_REPLICAS in tried


@pytest.mark.parametrize("routing", ["spread", "adapter"])
@pytest.mark.parametrize(("mean", "replicas"), [(24, 200), (8000, 8), (9000, 1)])
def test_what_a_reading_simulates_is_bounded(monkeypatch: pytest.MonkeyPatch, mean: int, replicas: int, routing: str) -> None:
    """Also at rates that only a cliff asks for: the traced requests and the tokens of those that are simulated are counted."""
    engine = {"memory_mb": 1536, "kv_mb": 4000, "routing": routing}
    twin = CapacityTwin(traffic(answer={"mean": mean, "most": 20_000}, engine=engine), TIMINGS).of(per_second=1e5)
    tokens, longest = list[int](), list[int]()

    def run(self: ReplicaSimulation, requests: Sequence[TracedRequest]) -> list[RequestOutcome]:
        tokens.append(sum(one.answer for one in requests))
        longest.append(len(requests))
        return [RequestOutcome(one, one.arrival + 1, one.arrival + 2) for one in requests]

    monkeypatch.setattr(ReplicaSimulation, "run", run)
    if routing == "adapter" and mean * replicas > 40_000:
        with pytest.raises(InvalidInput) as caught:
            twin.reading(replicas)
        assert caught.value.error_code == "traffic_long"
        return
    span = twin.span(replicas)
    assert span.seconds * 1e5 <= 400_001
    twin.outcomes(request_trace(twin.traffic, span.seconds), replicas, span.sampled)
    assert sum(tokens) <= 1.1e6
    assert sum(longest) >= 100
    assert len(tokens) == span.sampled


def test_fewer_requests_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "_MOST_TOKENS", 10_000)
    plan = capacity_plan(traffic(replicas=2), TIMINGS, PRICES)
    said = next(reason.text for reason in plan.reasons if reason.rule == "requests")
    assert "requests on 1 of 2 replicas" in said
    assert "in place of 1,500: readings are rougher" in said


def test_large_bursts_are_answered_as_far_as_they_may_wait() -> None:
    plan = CapacityTwin(traffic(arrivals={"per_second": 4, "burst": 5000}, answer={"mean": 4}), TIMINGS)
    assert plan.most_per_second == pytest.approx(CapacityTwin(traffic(answer={"mean": 4}), TIMINGS).most_per_second)
    assert plan.reading(1).refused > 0.9


def test_a_quantile_is_one_of_the_values() -> None:
    assert [quantile(list(range(1, 101)), share) for share in (0.0, 0.5, 0.95, 1.0)] == [1, 50, 95, 100]
