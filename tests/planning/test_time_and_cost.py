"""Estimates of time, by rates and by timed steps."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.planning import MACHINE, TOKENS, inputs, manifest, objective
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.plan import Calibration, Plan, RungPlan, TimedPass, TrainingSettings
from tailorbird.planning import PlanInputs, make_plan
from tailorbird.planning.estimates import FlopsWork, forward_flops, step_flops, training_flops


def rung(plan: Plan, kind: RungKind, variant: str | None = None) -> RungPlan:
    return next(r for r in plan.rungs if r.rung is kind and variant in (None, r.variant))


def trained(plan: Plan, kind: RungKind) -> TrainingSettings:
    settings = rung(plan, kind).training
    assert settings is not None
    return settings


def test_measured_rates_lie_within_the_estimate() -> None:
    """On 2 cores at 435 GFLOP/s bf16, LoRA r16 trained at 323-362 tokens a second: 128 rows of 42 tokens, batch 16, no prefix shared."""
    tokens = TOKENS.model_copy(update={"shared_prefix": 0, "target_mean": 5.7})
    plan = make_plan(inputs(tokens=tokens, manifest=manifest(train=142, dev=1)))
    settings = trained(plan, RungKind.LORA)
    steps = settings.epochs * 8
    seconds = steps * 16 * 42 / 342
    estimate = rung(plan, RungKind.LORA).time
    assert estimate.low < seconds < estimate.high


def timed_steps(settings: TrainingSettings, found: PlanInputs, rate: float) -> Calibration:
    """What a machine measures that reaches ``rate`` FLOP/s at every length, and whose updates and writes cost nothing."""
    passes = []
    for tokens in (100, 1_000):
        work = FlopsWork(tokens, tokens * 40, tokens // 10)
        both, forward = step_flops(found, settings.lora, work) / rate, forward_flops(found, work) / rate
        sizes = {"tokens": work.tokens, "pairs": work.pairs, "answers": work.answers}
        passes.append(TimedPass(**sizes, seconds=both, forward_seconds=forward, peak_gb=1.0))
    kept = {
        "machine": "m",
        "base_model": found.base.digest,
        "measured_at": datetime(2026, 1, 1, tzinfo=UTC),
        "process_gb": 0.3,
        "held_gb": 0.6,
    }
    rest = {"update_seconds": 0.0, "read_seconds": 1.0, "write_mb_s": 1e12, "trained_parameters": 1}
    return Calibration.model_validate({"settings": settings, "passes": passes, **kept, **rest})


@pytest.mark.parametrize(
    "rate",
    [
        1e11,
    ],
)
@pytest.mark.parametrize("kind", [RungKind.LORA, RungKind.FULL])
def test_timed_steps_give_the_time_of_the_whole_run(kind: RungKind, rate: float) -> None:
    """On a machine that is a clock of FLOPs, the loop takes all its FLOPs over the rate."""
    found = inputs(manifest=manifest(train=9_000))
    settings = trained(make_plan(found), kind)
    timed = inputs(manifest=manifest(train=9_000), calibrations=(timed_steps(settings, found, rate),))
    planned = rung(make_plan(timed), kind, None if kind is RungKind.FULL else "r16")
    assert planned.calibrated == "2026-01-01"
    assert planned.training_time.likely == pytest.approx(training_flops(timed, settings) / rate, rel=0.02)


def test_steps_that_were_timed_beside_other_work_leave_no_rung_out_by_time() -> None:
    """The likely time is beyond the budget; the low end of an interval that is wide on such a reading is not."""
    small = inputs(manifest=manifest(train=9_000))
    settings = trained(make_plan(small), RungKind.FULL)
    seconds = training_flops(small, settings) / 1e11
    budget = objective(budget={"money": 1000, "hours": 0.8 * seconds / 3600})
    timed = timed_steps(settings, small, 1e11)
    for loaded, reasons in ((False, ["full"]), (True, [])):
        found = inputs(manifest=manifest(train=9_000), objective=budget, calibrations=(timed.model_copy(update={"loaded": loaded}),))
        plan = make_plan(found)
        assert [
            r.rung.value for r in plan.left_out if "needs about" in r.reason and "budget" in r.reason and r.rung is RungKind.FULL
        ] == reasons
        if loaded:
            planned = rung(plan, RungKind.FULL)
            assert planned.calibrated == "2026-01-01 beside other work"
            assert planned.training_time.high / planned.training_time.likely == pytest.approx(1.6)


@given(st.integers(50, 5_000), st.floats(1.1, 4.0))
def test_more_rows_cost_more_and_faster_machines_less(rows: int, faster: float) -> None:
    rich = objective(budget={"hours": 1e5, "money": 1e5})
    few = make_plan(inputs(objective=rich, manifest=manifest(train=rows)))
    fast = MACHINE.model_copy(update={"fp32_gflops": 146 * faster, "bf16_gflops": 435 * faster})
    for kind in (RungKind.LORA, RungKind.FULL):
        quicker = make_plan(inputs(objective=rich, manifest=manifest(train=rows), machine=fast))
        assert rung(quicker, kind).time.likely < rung(few, kind).time.likely
        settings = trained(few, kind)
        more = training_flops(inputs(manifest=manifest(train=rows + 100)), settings)
        assert more > training_flops(inputs(manifest=manifest(train=rows)), settings)
    assert rung(few, RungKind.LORA).memory.likely < rung(few, RungKind.FULL).memory.likely
