"""What would settle an open question, in words: a number that somebody could collect, or that none would."""

from __future__ import annotations

import pytest

from tailorbird.domain.evidence import Comparison
from tailorbird.reporting.comparison_sentences import settles_comparison, standing_word


def compared(low: float, high: float, **changes: object) -> Comparison:
    known = {"upper": "sha256:" + "1" * 64, "lower": "sha256:" + "2" * 64, "metric": "accuracy", "n": 400, "confidence": 0.9}
    counted = {"wins": 10, "losses": 30, "p_value": 0.01, "margin": 0.02, "standing": "not_proven", "items_needed": 18_632}
    return Comparison.model_validate(known | counted | {"difference": (low + high) / 2, "low": low, "high": high} | changes)


@pytest.mark.parametrize(
    ("found", "word", "settles"),
    [
        (compared(-0.09, -0.01), "not better", "more items would only tell by how much it is worse"),
        (compared(0.01, 0.09, less_is_better=True), "not better", "more items would only tell by how much it is worse"),
        (compared(-0.09, 0.01), "not proven", "18,632 more items would settle it"),
    ],
)
def test_that_one_is_no_better_needs_no_more_items(found: Comparison, word: str, settles: str) -> None:
    """An interval wholly on the losing side settles the question that is asked; records of before say a number nonetheless."""
    assert standing_word(found) == word
    assert settles_comparison(found) == settles
