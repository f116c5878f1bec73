"""Number formats as sentences: a loss is judged by its interval, on the side that is worse."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tailorbird.domain.evidence import Comparison, Metric, Standing
from tailorbird.domain.number_format import FormatMeasurement, FormatReading, NumberFormat
from tailorbird.domain.plan import Machine, Plan
from tailorbird.reporting import plan_page
from tailorbird.reporting.format_lines import format_lines

NAME = "sha256:" + "0" * 64
SCORE = Metric(name="accuracy", value=0.9, low=0.85, high=0.93, confidence=0.95, n=200, method="wilson")


def difference(low: float, high: float, *, less: bool = False, reason: str = "") -> Comparison:
    return Comparison(
        upper=NAME,
        lower=NAME,
        metric="accuracy",
        n=200,
        difference=(low + high) / 2,
        low=low,
        high=high,
        confidence=0.95,
        wins=0,
        losses=0,
        p_value=1.0,
        margin=0.02,
        standing=Standing.NOT_PROVEN,
        items_needed=900,
        less_is_better=less,
        smallest_margin=0.01,
        reason=reason,
        labels=(),
    )


def told(found: Comparison | None, **changes: object) -> list[str]:
    return format_lines(plan_with(measurement(found, **changes)))


def measurement(found: Comparison | None, **changes: object) -> FormatMeasurement:
    as_set = FormatReading(
        format=NumberFormat(), fingerprint="tailorbird-1 torch-2 transformers-5 bf16 cpu native", score=SCORE, alone_ms=7.25
    )
    other = FormatReading(
        format=NumberFormat(precision="int8"), fingerprint="t-1 o-2 r-5 int8 cpu", score=SCORE, difference=found, differ=4
    )
    no_four_bits = FormatReading(format=NumberFormat(adapters="int4"), refused="the native pass does not compute it")
    measured = FormatMeasurement(
        objective="desk",
        machine="here",
        base=NAME,
        snapshot=NAME,
        candidate=NAME,
        label="lora r16 on tiny",
        rows=200,
        at=datetime(2026, 3, 1, tzinfo=UTC),
        readings=(as_set, other, no_four_bits),
    )
    return measured.model_copy(update=changes)


def plan_with(*formats: FormatMeasurement) -> Plan:
    nothing: dict[str, object] = dict.fromkeys(("rungs", "left_out", "dev_power", "test_power"), ())
    made = {"objective": NAME, "snapshot": NAME, "base_model": NAME, "machine": Machine(cores=2, memory_gb=8), "formats": formats}
    return Plan.model_validate(nothing | made)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (difference(-0.01, 0.05), "no loss of more than 0.02"),
        (difference(-0.08, -0.03), "a loss of more than 0.02"),
        (difference(-0.03, 0.01), "a loss of more than 0.02 is not ruled out, which about 900 more rows would tell"),
        (difference(0.03, 0.08, less=True), "a loss of more than 0.02"),
        (difference(-0.05, 0.01, less=True), "no loss of more than 0.02"),
        (difference(-1, 1, reason="a score is missing"), "which is open: a score is missing"),
    ],
)
def test_a_loss_is_judged_by_its_interval(found: Comparison, expected: str) -> None:
    line = told(found)[2]
    assert f"against the one that is set, {expected}; answers that differ: 4;" in line


def test_each_format_says_how_it_is_set_and_what_it_is() -> None:
    heading, as_set, int8, four_bits, rule = told(difference(0, 0))
    assert heading == "number formats of lora r16 on tiny: 200 dev rows, 2026-03-01 00:00 UTC, here"
    assert as_set.startswith("engine_precision: auto (bf16 cpu native): accuracy 0.900 [0.850, 0.930]; 7.2 ms a request alone")
    assert int8.startswith("engine_precision: int8 (int8 cpu): ")
    assert four_bits == "engine_precision: auto, engine_adapters: int4: not here: the native pass does not compute it"
    assert "before adapt" in rule


def test_times_beside_other_work_are_said_to_be_so() -> None:
    assert "beside other work" in told(None, loaded=True)[0]


def test_nothing_is_said_where_nothing_was_measured() -> None:
    assert format_lines(plan_with()) == []


def test_the_page_has_them_where_something_was_measured() -> None:
    assert "no loss of more than 0.02" in plan_page(plan_with(measurement(difference(-0.01, 0.01))), "desk")
    assert "Number formats" not in plan_page(plan_with(), "desk")
