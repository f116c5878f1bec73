"""What would settle an open question, in words: a number that somebody could collect, or that none would."""

from __future__ import annotations

import pytest

from tailorbird.foundations.settling import what_settles


@pytest.mark.parametrize(
    ("needed", "told"),
    [
        (None, ""),
        (0, ""),
        (1_817, "1,817 more items would settle it"),
        (1_000_000, "1,000,000 more items would settle it"),
        (6_376_346, "it lies too near the line to settle: not with 1,000,000 more items"),
    ],
)
def test_the_number_is_told_while_somebody_could_collect_it(needed: int | None, told: str) -> None:
    assert what_settles(needed) == told
