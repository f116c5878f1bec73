"""Capacity plans: more replicas never answer more slowly, adapters past the cache do, and the cliffs are told."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.capacity import TIMINGS, traffic
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.plan import Prices
from tailorbird.planning.capacity import HOURS, CapacityTwin, capacity_plan, quantile

PRICES = Prices(per_hour=0.5, currency="EUR")


@given(st.integers(2, 12), st.integers(1, 300), st.sampled_from(["spread", "adapter"]))
@settings(max_examples=5, deadline=None)
def test_more_replicas_are_not_slower(per_second: int, adapters: int, routing: str) -> None:
    """Within noise: a replica's share of the same requests is another one."""
    engine = {"memory_mb": 1536, "routing": routing}
    twin = CapacityTwin(traffic(arrivals={"per_second": per_second}, adapters={"count": adapters}, engine=engine), TIMINGS)
    few, more = twin.reading(2), twin.reading(4)
    assert more.p95_ms <= 1.1 * few.p95_ms
    assert more.load == pytest.approx(few.load / 2)


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
    ],
)
def test_what_no_replicas_can_do_is_an_error(changes: dict[str, object], code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        capacity_plan(traffic(**changes), TIMINGS, PRICES)
    assert caught.value.error_code == code


def test_a_quantile_is_one_of_the_values() -> None:
    assert [quantile(list(range(1, 101)), share) for share in (0.0, 0.5, 0.95, 1.0)] == [1, 50, 95, 100]
