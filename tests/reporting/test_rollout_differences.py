"""Intervals of differences, as people read them."""

from __future__ import annotations

import math

import pytest

from tailorbird.domain.rollout import GuardName
from tailorbird.reporting.documents import difference_range


@pytest.mark.parametrize(
    ("guard", "ends", "told"),
    [
        (GuardName.ERRORS, (-0.0052, 0.0131), "-0.52 to +1.31 points"),
        (GuardName.LATENCY, (math.log(0.92), math.log(1.12)), "-8 % to +12 %"),
        (GuardName.FEEDBACK, (-0.031, 0.012), "-0.031 to +0.012"),
        (GuardName.COST, (None, None), "–"),
    ],
)
def test_each_guard_has_its_own_scale(guard: GuardName, ends: tuple[float | None, float | None], told: str) -> None:
    assert difference_range(guard, *ends) == told
