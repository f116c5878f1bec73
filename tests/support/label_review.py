"""A label review that people have not ended."""

from __future__ import annotations

from tailorbird.domain.evidence import Verdict
from tailorbird.domain.label_review import Bounded, JudgeResult, ReviewResult

NOTHING = Bounded(value=None)


def open_review(asked: int, missing: int, *judges: JudgeResult) -> ReviewResult:
    """Nobody has judged yet, but perhaps models."""
    return ReviewResult(
        asked=asked,
        missing=missing,
        reviewers=(),
        win_rate=NOTHING,
        cohen=NOTHING,
        fleiss=NOTHING,
        krippendorff=NOTHING,
        verdict=Verdict.INCONCLUSIVE,
        reason=f"{missing} {'reviewer' if missing == 1 else 'reviewers'} still to judge all {asked} items",
        judges=judges,
    )
