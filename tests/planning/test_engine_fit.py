"""Timings fitted to what a client would measure of an engine with known ones."""

from __future__ import annotations

import pytest

from support.capacity import TIMINGS
from support.planning import SMALL
from tailorbird.domain.capacity import EngineTimings, ServingMeasurement, TimedRequest, TimedStep
from tailorbird.planning.engine_fit import adapter_mebibytes, fit_timings
from tailorbird.planning.replica_simulation import ReplicaBudget, ReplicaSimulation, StepClock
from tailorbird.planning.request_trace import TracedRequest

TRUE = TIMINGS.model_copy(update={"delay_seconds": 0.01, "request_seconds": 0.004, "context_seconds": 2e-7})


def step(tokens: int, rows: int, adapters: int, context: float, *, first: bool = False) -> TimedStep:
    seconds = StepClock(TRUE, ()).passed(tokens) + TRUE.row_seconds * rows + TRUE.adapter_seconds * adapters
    seconds += TRUE.context_seconds * context + TRUE.delay_seconds * first
    return TimedStep(tokens=tokens, rows=rows, adapters=adapters, context=context, seconds=seconds, first=first)


def measurement(true: EngineTimings = TRUE) -> ServingMeasurement:
    steps = [step(rows, rows, adapters, 60.0 * rows) for rows, adapters in ((1, 1), (4, 4), (8, 1), (8, 8), (16, 1), (16, 16), (32, 16))]
    steps += [step(8, 8, 8, 8 * 900.0), *(step(new, 1, 1, new * new / 2, first=True) for new in (16, 30, 64, 120, 256, 500, 1000))]
    come = [TracedRequest(place * 0.09, place % 8, 0, 60 + place % 40, 32, 5 + place % 20) for place in range(160)]
    replica = ReplicaSimulation(true, (16,) * 8, ReplicaBudget(1000, 1024))
    replica.remember(range(8))
    took = [(one.ended or 0.0) - one.request.arrival for one in replica.run(come)]
    traffic = [
        TimedRequest(arrival=a, adapter=n, prompt=p, cached=s, answer=w, took=t) for (a, n, _, p, s, w), t in zip(come, took, strict=True)
    ]
    return ServingMeasurement(
        steps=tuple(steps),
        traffic=tuple(traffic),
        load_seconds=0.08,
        busy_load_seconds=0.12,
        load_slowdown=1.5,
        held_mb=331 + 8 * 10,
        resident=8,
        kv_tokens=1024 * 45,
    )


def test_known_timings_are_found_again() -> None:
    fitted = fit_timings(measurement(), adapter_mb=10, kv_mb=1024)
    assert fitted.error < 0.02
    assert (fitted.base_mb, fitted.kv_tokens_per_mb) == (331, 45)
    assert fitted.request_seconds == pytest.approx(TRUE.request_seconds, rel=0.3)
    true, found = StepClock(TRUE, (16,)), StepClock(fitted, (16,))
    for tokens in (1, 8, 32, 200, 900):
        assert found.passed(tokens) == pytest.approx(true.passed(tokens), rel=0.1)


def test_traffic_that_took_less_than_its_steps_shortens_them() -> None:
    half = {"pass_seconds": tuple((tokens, seconds / 2) for tokens, seconds in TRUE.pass_seconds), "row_seconds": 0.00025}
    quick = TRUE.model_copy(update=half | {"adapter_seconds": 0.0004, "context_seconds": 1e-7, "request_seconds": 0.0})
    fitted = fit_timings(measurement(quick), adapter_mb=10, kv_mb=1024)
    assert fitted.request_seconds == 0
    assert StepClock(fitted, (16,)).passed(200) == pytest.approx(StepClock(quick, (16,)).passed(200), rel=0.15)


def test_no_fitted_pass_takes_nothing() -> None:
    """Steps that take as long as their rows and nothing beside: what is fitted can be read again."""
    whole = measurement()
    steps = tuple(one.model_copy(update={"seconds": 0.02 * one.rows}) for one in whole.steps)
    fitted = fit_timings(whole.model_copy(update={"steps": steps}), adapter_mb=10, kv_mb=1024)
    assert EngineTimings.model_validate_json(fitted.model_dump_json()) == fitted


def test_an_adapter_takes_eight_bits_and_its_scales() -> None:
    weights = 16 * sum(group.count * (group.inputs + group.outputs) for group in SMALL.linear_groups)
    assert 1.05 * weights < adapter_mebibytes(SMALL, "auto") * 2**20 < 1.2 * weights
    assert 0.52 * weights < adapter_mebibytes(SMALL, "bf16", "int4") * 2**20 < 0.63 * weights
    assert adapter_mebibytes(SMALL, "fp32") * 2**20 == 4 * weights
