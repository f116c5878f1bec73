"""What rungs cost in all: the order that follows from making and traffic, and the volumes at which it would be another."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.planning import SMALL, D, inputs, objective
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.objective import Objective
from tailorbird.domain.plan import Estimate, Plan, RungPlan
from tailorbird.planning import MachineChange, make_plan, with_machine_change
from tailorbird.planning.time_and_cost import order_rungs


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
    assert reason == (
        "stands before prompt long prompt, although making it costs 1.9 EUR more: 120,000 requests cost 60 less; "
        "below 317 requests a month it would stand behind it"
    )
    (flip,) = many.flips
    assert (flip.below, flip.above, round(flip.per_month, 3)) == ("prompt long prompt", "prompt adapter", 316.667)
    assert flip.low <= flip.per_month
    assert flip.high is not None
    assert flip.high >= flip.per_month


def test_assumed_traffic_is_told_and_that_of_the_objective_is_not_called_assumed() -> None:
    assumed, given_ = make_plan(inputs()), make_plan(inputs(objective=asked(10_000)))
    assert assumed.traffic is not None
    assert (assumed.traffic.per_month, assumed.traffic.horizon_months, assumed.traffic.assumed) == (10_000, 12.0, True)
    assert given_.traffic is not None
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


@given(drawn=RUNGS)
def test_two_rungs_change_places_at_the_volume_that_is_told_and_nowhere_else(drawn: list[tuple[float, float, str | None]]) -> None:
    rungs = tuple(rung(f"r{place}", *one) for place, one in enumerate(drawn))
    for flip in planned(*rungs, per_month=0).flips:
        below, above = (name.removeprefix("prompt ") for name in (flip.below, flip.above))
        if 10 < flip.per_month < 1e9:
            under, over = (
                names(planned(*rungs, per_month=volume)) for volume in (math.floor(flip.per_month) - 1, math.ceil(flip.per_month) + 1)
            )
            assert under.index(below) < under.index(above)
            assert over.index(above) < over.index(below)
    turned = {frozenset((flip.below, flip.above)) for flip in planned(*rungs, per_month=0).flips}
    # At no volume at all rungs that cost the same to make tie, and the order in which they are listed decides.
    none, much = (names(planned(*rungs, per_month=volume)) for volume in (1, 10**11))
    for place, name in enumerate(none):
        for later in none[place + 1 :]:
            if much.index(later) < much.index(name):
                assert frozenset((f"prompt {name}", f"prompt {later}")) in turned


def test_a_small_cost_of_making_is_not_lost_beside_many_requests() -> None:
    dearer, cheaper = rung("dearer", making=1e-7, asking=2.0), rung("cheaper", making=0.0, asking=2.0, base=D)
    assert names(planned(dearer, cheaper, per_month=10**11)) == ["cheaper", "dearer"]


@pytest.mark.parametrize("gpu", [None, "h100"])
def test_flips_of_a_real_plan_are_those_that_planning_shows(gpu: str | None) -> None:
    at = with_machine_change(inputs(), MachineChange(gpu=gpu))
    flips = make_plan(at).flips
    assert {(flip.below, flip.above) for flip in flips} >= {("prompt few-shot", "lora r16")}
    for flip in flips:
        for volume, first in ((math.floor(flip.per_month) - 1, flip.below), (math.ceil(flip.per_month) + 1, flip.above)):
            if volume >= 0:
                order = [
                    f"{each.rung.value} {each.variant}" for each in make_plan(with_machine_change(at, MachineChange(traffic=volume))).rungs
                ]
                last = flip.above if first == flip.below else flip.below
                assert order.index(first) < order.index(last), (volume, order)


def test_larger_adapters_and_full_stay_behind_the_adapter_at_any_volume() -> None:
    for volume in (0, 1_000, 10**9):
        order = [
            (each.rung, each.variant) for each in make_plan(with_machine_change(inputs(base=SMALL), MachineChange(traffic=volume))).rungs
        ]
        places = [order.index(one) for one in ((RungKind.LORA, "r16"), (RungKind.LORA, "r64"), (RungKind.FULL, "all weights"))]
        assert places == sorted(places)
        assert order[0] == (RungKind.PROMPT, "zero-shot")


def test_examples_that_are_looked_up_are_read_anew_with_each_request() -> None:
    plan = {each.variant: each for each in make_plan(inputs()).rungs}
    shown, looked_up = plan["few-shot"].serving_cost, plan["8 by words"].serving_cost
    assert shown is not None
    assert looked_up is not None
    assert looked_up.likely > 2 * shown.likely  # eight of its own against twelve that every request shares
