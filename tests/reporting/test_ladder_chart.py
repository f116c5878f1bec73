"""Ladder chart: positions of measured and of estimated rungs."""

from __future__ import annotations

import pytest

from support.reporting import ladder, name_of, objective, plan
from tailorbird.domain.ladder import Refusal, RungKind
from tailorbird.domain.plan import Estimate, PlannedFloor, Reason
from tailorbird.reporting.ladder_chart import ladder_chart, planned_chart


def test_bars_lie_where_the_numbers_say() -> None:
    chart = ladder_chart(objective(), ladder())
    assert (chart.ticks, chart.target, chart.target_at) == (("0", "0.25", "0.5", "0.75", "1"), 0.9, 90.0)
    assert [(rung.name, rung.state, rung.then, rung.verdict) for rung in chart.all_rungs] == [
        ("floor tf-idf", "floor", "reference beside the ladder", "fail"),
        ("prompt few-shot", "climbed", "climbed on", "inconclusive"),
        ("lora r16", "chosen", "chosen", "pass"),
        ("full weights", "refused", "not tried", ""),
    ]
    bar = chart.rungs[1].bar
    assert bar is not None
    assert (bar.value, bar.low, bar.high, bar.text) == (95.0, 90.0, 98.0, "0.950 [0.900, 0.980]")
    assert chart.rungs[1].against_below == "+0.070 not proven [-0.012, +0.150], 40 more items would settle it"
    assert chart.rungs[2].reason == "the rung below passes"


def test_a_floor_that_is_a_rung_stands_in_the_ladder() -> None:
    as_rung = ladder().model_copy(update={"floor_is_rung": True})
    chosen = ladder().model_copy(update={"chosen": name_of(1)})
    for found in (as_rung, chosen):
        chart = ladder_chart(objective(), found)
        assert chart.floor is None
        assert chart.rungs[0].name == "floor tf-idf"
        assert "the floor below it" not in chart.caption


def test_what_the_sealed_test_did_not_confirm_says_so() -> None:
    found = ladder().model_copy(update={"unconfirmed": (name_of(2),)})
    assert ladder_chart(objective(), found).rungs[0].then == "not confirmed by the sealed test"


def test_refused_rungs_stand_in_the_order_of_their_cost() -> None:
    refused = (Refusal(rung=RungKind.FULL, reason="a"), Refusal(rung=RungKind.QLORA, reason="b"))
    chart = ladder_chart(objective(), ladder().model_copy(update={"refused": refused}))
    assert [rung.name for rung in chart.rungs if rung.state == "refused"] == ["qlora", "full"]


def test_a_climb_in_progress_shows_what_lies_ahead() -> None:
    chart = ladder_chart(objective(), None, plan=plan())
    assert [(rung.name, rung.state) for rung in chart.all_rungs] == [("lora r16", "ahead"), ("full", "refused")]
    begun = ladder_chart(objective(), None, plan=plan(), climbs=ladder().climbs[1:])
    assert [(rung.name, rung.state) for rung in begun.all_rungs] == [("lora r16", "climbed"), ("full", "refused")]


def test_an_axis_beyond_one_keeps_everything_in_view() -> None:
    goal = objective()
    goal = goal.model_copy(update={"kpis": (goal.kpis[0].model_copy(update={"target": 2.5}),)})
    chart = ladder_chart(goal, ladder())
    assert chart.ticks[-1] == "2.8"
    assert chart.target_at == pytest.approx(100 * 2.5 / 2.75, abs=0.01)


def test_a_metric_that_is_no_kpi_has_no_target() -> None:
    chart = ladder_chart(objective().model_copy(update={"compare_on": "log_loss"}), ladder())
    assert (chart.metric, chart.target_at, chart.rungs[0].bar) == ("log_loss", None, None)
    assert "target" not in chart.caption


def test_a_plan_is_drawn_over_the_estimated_time() -> None:
    chart = planned_chart(plan())
    bar = chart.rungs[0].bar
    assert bar is not None
    assert (bar.low, bar.value, bar.high, bar.text) == (40.4, 60.61, 90.91, "2 min 00 s – 4 min 30 s")
    assert chart.ticks[0] == "0.0 s"
    assert chart.ticks[-1] == "4 min 57 s"
    assert [(rung.name, rung.state, rung.then) for rung in chart.rungs] == [("lora r16", "ahead", ""), ("full", "refused", "left out")]


@pytest.mark.parametrize(("role", "beside"), [("rung", False), ("reference", True)])
def test_the_floor_of_a_plan_stands_where_its_role_says(role: str, beside: bool) -> None:
    why = Reason(rule="floor", text="words", source="here")
    time = Estimate(low=1, likely=2, high=3, unit="s")
    floor = PlannedFloor.model_validate({"role": role, "reason": why, "time": time})
    chart = planned_chart(plan().model_copy(update={"floor": floor}))
    assert (chart.floor is not None) is beside
    assert chart.all_rungs[0].name.startswith("floor words")
    assert ("the floor below it" in chart.caption) is beside
