"""What rungs cost in all: the order that follows from making and traffic."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from support.planning import D, inputs, objective
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.objective import Objective
from tailorbird.domain.plan import Estimate, Plan, RungPlan
from tailorbird.planning import make_plan
from tailorbird.planning.estimates import order_rungs


def estimate(likely: float, unit: str = "EUR") -> Estimate:
    return Estimate(low=likely / 2, likely=likely, high=2 * likely, unit=unit)


def rung(name: str, making: float, asking: float, base: str | None = None) -> RungPlan:
    costs = {"time": estimate(60, "s"), "memory": estimate(1, "GiB"), "money": estimate(making), "serving_cost": estimate(asking)}
    return RungPlan(rung=RungKind.PROMPT, variant=name, training=None, base=base, reasons=(), **costs)


PLAN = make_plan(inputs())


def planned(*rungs: RungPlan, per_month: int) -> Plan:
    return order_rungs(PLAN.model_copy(update={"rungs": rungs}), asked(per_month))


def asked(per_month: int) -> Objective:
    return objective(traffic={"per_month": per_month, "horizon_months": 12})


def names(plan: Plan) -> list[str]:
    return [rung.variant for rung in plan.rungs]


def test_a_total_is_making_and_all_requests_of_the_horizon() -> None:
    (only,) = planned(rung("a", making=3.0, asking=0.5), per_month=10_000).rungs
    assert only.total == Estimate(low=1.5 + 0.25 * 120, likely=3.0 + 0.5 * 120, high=6.0 + 1.0 * 120, unit="EUR")


def test_a_long_prompt_comes_first_for_few_requests_and_last_for_many() -> None:
    prompt, adapter = rung("long prompt", making=0.1, asking=1.0), rung("adapter", making=2.0, asking=0.5)
    assert names(planned(prompt, adapter, per_month=100)) == ["long prompt", "adapter"]
    many = planned(prompt, adapter, per_month=10_000)
    assert names(many) == ["adapter", "long prompt"]
    (reason,) = [reason.text for reason in many.rungs[0].reasons if reason.rule == "traffic"]
    assert reason == "stands before prompt long prompt, although making it costs 1.9 EUR more: 120,000 requests cost 60 less"


def test_assumed_traffic_is_told_and_that_of_the_objective_is_not_called_assumed() -> None:
    assumed, given_ = make_plan(inputs()), make_plan(inputs(objective=asked(10_000)))
    assert (assumed.traffic.per_month, assumed.traffic.horizon_months, assumed.traffic.assumed) == (10_000, 12.0, True)
    assert not given_.traffic.assumed
    assert names(assumed) == names(given_)
    assert "120,000 requests together (assumed: the objective names no `traffic`)" in assumed.rungs[0].reasons[0].text


COSTS = st.floats(min_value=0.0, max_value=100.0, allow_nan=False)
RUNGS = st.lists(st.tuples(COSTS, st.sampled_from([0.0, 0.1, 0.5, 2.0]), st.sampled_from([None, D])), min_size=1, max_size=8)


@given(drawn=RUNGS, volumes=st.tuples(st.integers(0, 10**7), st.integers(0, 10**7)))
def test_the_order_is_total_and_traffic_never_reorders_rungs_that_cost_the_same_to_ask(
    drawn: list[tuple[float, float, str | None]], volumes: tuple[int, int]
) -> None:
    rungs = tuple(rung(f"r{place}", *one) for place, one in enumerate(drawn))
    one, other = (planned(*rungs, per_month=volume) for volume in volumes)
    for plan in (one, other):
        assert sorted(names(plan)) == sorted(each.variant for each in rungs)
        assert names(plan) == names(
            order_rungs(plan.model_copy(update={"rungs": rungs}), asked(plan.traffic.per_month if plan.traffic else 0))
        )
    for asking in {each.serving_cost for each in rungs}:
        alike = [each.variant for each in rungs if each.serving_cost == asking]
        assert [name for name in names(one) if name in alike] == [name for name in names(other) if name in alike]
