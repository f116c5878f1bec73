"""How candidates do where the data have shifted, as people read it.

In: a ladder, evidence. Out: lines of text and rows of tables. Must not know: how it was measured.
"""

from __future__ import annotations

from tailorbird.domain.evidence import Comparison, Evidence
from tailorbird.domain.ladder import Climb, Ladder
from tailorbird.reporting.formatting import NOTHING, difference_text, metric_text

#: What heads the table of ``shift_rows``.
SHIFT_HEAD = ("rung", "usual items", "shifted items", "drop", "items")


def shift_rows(ladder: Ladder, metric: str) -> list[tuple[str, ...]]:
    """Each rung with ``metric`` on the usual items of dev, on those of the shifted part, and the drop between the two."""
    return [_row(climb, metric) for climb in ladder.measured if climb.evidence.shifted]


def compared_lines(ladder: Ladder) -> list[str]:
    """Candidates that learned, in pairs on the shifted part of dev: one sentence a line."""
    names = {climb.candidate: f"{climb.rung.value} {climb.variant}" for climb in ladder.measured}
    return [_compared(found, names) for found in ladder.on_shifted]


def metric_on_shifted(ladder: Ladder | None, evidence: Evidence | None) -> str:
    """The metric that the drop is of: the one that rungs are compared by."""
    if evidence and evidence.compared_on:
        return evidence.compared_on
    compared = next((found.metric for climb in (ladder.climbs if ladder else ()) if (found := climb.against_below)), None)
    known = evidence.shifted_metrics if evidence else {}
    return compared or next((name for name in ("accuracy", "exact_match", "ndcg@10") if name in known), next(iter(known), ""))


def _row(climb: Climb, metric: str) -> tuple[str, ...]:
    usual, shifted, drop = (
        climb.evidence.metrics.get(metric),
        climb.evidence.shifted_metrics.get(metric),
        climb.evidence.metrics.get("shift"),
    )
    items = f"{shifted.n:,}" if shifted else NOTHING
    return (f"{climb.rung.value} {climb.variant}", metric_text(usual), metric_text(shifted), metric_text(drop), items)


def _compared(found: Comparison, names: dict[str, str]) -> str:
    upper, lower = names.get(found.upper, "?"), names.get(found.lower, "?")
    return f"{upper} against {lower} on the same {found.n:,} shifted items, {found.metric}: {difference_text(found)}"
