"""What users say of a release's answers, held against its live KPIs.

The chance that a KPI is ever taken for proven while the true share is at its target or below is (1 − confidence) / 2 at most, as at the
gate, however often one looks. All must be proven, so nothing is shared out among them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tailorbird.domain.objective import LiveKpi
from tailorbird.domain.rollout import LiveFinding, Votes
from tailorbird.stats.sequential import ConfidenceBounds, Moments, more_than, needed, share_bounds, votes_needed


def live_findings(kpis: Sequence[LiveKpi], votes: Iterable[Votes], confidence: float) -> tuple[LiveFinding, ...]:
    """One finding a KPI, in their order."""
    found = {one.metric: one for one in votes}
    nothing = {kpi.metric: Votes(metric=kpi.metric, said=0, units=0, total=0.0) for kpi in kpis}
    return tuple(_finding(kpi, found.get(kpi.metric, nothing[kpi.metric]), (1 - confidence) / 2) for kpi in kpis)


def unproven(findings: Iterable[LiveFinding]) -> str:
    """What is missing, in words; empty where nothing is."""
    return "; ".join(finding.text for finding in findings if finding.standing != "proven")


def _finding(kpi: LiveKpi, votes: Votes, alpha: float) -> LiveFinding:
    counted = Moments(votes.units, votes.total)
    bounds, more = share_bounds(counted, alpha), votes_needed(counted, kpi.target, alpha)
    proven = bool(votes.units) and more_than(counted, kpi.target) >= needed(alpha)
    standing = "proven" if proven else "missed" if bounds is not None and bounds.high < kpi.target else "open"
    return LiveFinding.model_validate(
        {
            "metric": kpi.metric,
            "target": kpi.target,
            "value": bounds.value if bounds else None,
            "low": bounds.low if bounds else None,
            "high": bounds.high if bounds else None,
            "units": votes.units,
            "said": votes.said,
            "standing": standing,
            "needed": more,
            "text": _text(kpi, votes, bounds, standing, more),
        }
    )


def _text(kpi: LiveKpi, votes: Votes, bounds: ConfidenceBounds | None, standing: str, more: int | None) -> str:
    if bounds is None:
        return f"{kpi.metric} of {kpi.target:g}: nobody has said anything yet; at least {more:,} users must, all of them content"
    told = f"{kpi.metric} {bounds.value:.3f} [{bounds.low:.3f}, {bounds.high:.3f}] of {votes.units:,} users ({votes.said:,} answers)"
    if standing == "proven":
        return f"{told} is proven to reach {kpi.target:g}"
    if standing == "missed":
        return f"{told} is proven to miss {kpi.target:g}"
    if more is None:
        return f"{told} does not prove {kpi.target:g}, and at this share no number of users would"
    return f"{told} does not prove {kpi.target:g}: about {more:,} more users would at this share"
