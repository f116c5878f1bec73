"""The planner's own record as people read it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from rich.console import Console

from tailorbird.domain.ladder import RungKind
from tailorbird.domain.plan import Estimate
from tailorbird.domain.timing import EstimateError
from tailorbird.reporting import accuracy_table


@pytest.mark.parametrize(
    ("quiet", "shown", "error"), [(0.0, "50.0 s", "-80%"), (50.0, "50.0 s", "-80%"), (12.5, "50.0 s (12.5 s alone)", "-20%")]
)
def test_a_training_beside_other_work_is_held_to_what_it_takes_alone(quiet: float, shown: str, error: str) -> None:
    ten = Estimate(low=8, likely=10, high=12, unit="s")
    found = EstimateError(
        run="run0001",
        rung=RungKind.LORA,
        variant="r16",
        base_model="base",
        machine="here",
        at=datetime(2026, 1, 1, tzinfo=UTC),
        calibrated=True,
        seconds=ten,
        took_seconds=50.0,
        memory=ten,
        took_memory=10.0,
        quiet_seconds=quiet,
    )
    console = Console(width=200)
    with console.capture() as captured:
        console.print(accuracy_table((found,)))
    line = next(line for line in captured.get().splitlines() if "run0001" in line)
    assert f" {shown} " in line
    assert ("alone" in line) is ("alone" in shown)
    assert error in line
