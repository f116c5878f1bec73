"""Comparison metric of an objective, its margin, and whether the items can prove that margin.

Two candidates that never differ on n items are proven to tie within z² / (n + z²) (``stats.intervals.never_differing``): no smaller
margin can be proven, whatever they answer. n counts groups where items share any; a metric of a label rests on the items that bear it, a
mean over labels on K² / Σ (1 / n_k) of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tailorbird.domain.dataset import SnapshotManifest, Split
from tailorbird.domain.objective import Objective
from tailorbird.domain.plan import PlannedComparison, Reason
from tailorbird.objective.objective_file import ObjectiveFile
from tailorbird.objective.power import GroupSizes, alone
from tailorbird.stats.intervals import spend
from tailorbird.stats.metric_direction import SCOPE_METRICS, base_of, first_compared, label_of, margin_in, measure_of
from tailorbird.stats.paired_tests import never_differing

#: Means over labels.
_OVER_LABELS = frozenset({"macro_f1", "balanced_accuracy"})
#: What some ways to adapt, or some items, have no score of: it is compared only where nothing else is.
_PARTIAL = frozenset({"groundedness", "referral_recall", "referral_precision", "tool_call_accuracy", "field_score"})
_SOURCE = "docs/decisions/0048"


def plan_comparison(file: ObjectiveFile, manifest: SnapshotManifest, groups: GroupSizes = alone) -> PlannedComparison:
    """The metric that the objective names; otherwise the first KPI whose dev and test items can prove the margin, and where none can, the
    one with the smallest margin that they can prove, in multiples of what is asked."""
    objective = file.objective
    names = [objective.compare_on] if objective.compare_on else _of_answers(objective)
    names = [name for name in names if base_of(name) not in _PARTIAL] or names
    offers = [_offer(name, file, manifest, groups) for name in names]
    proven = next((offer for offer in offers if offer.proves), None)
    chosen = proven or min(offers, key=lambda offer: offer.least / offer.margin if offer.margin else offer.least)
    return PlannedComparison(
        metric=chosen.metric,
        margin=chosen.margin,
        unit=measure_of(chosen.metric).unit,
        dev_smallest=chosen.dev,
        test_smallest=chosen.test,
        reason=Reason(rule="compare_on", text="; ".join(_words(chosen, objective.compare_on is not None, len(offers))), source=_SOURCE),
    )


def margin_for(file: ObjectiveFile, metric: str) -> float:
    """The margin of ``metric``, in its unit: what the objective says, or the metric's default."""
    objective = file.objective
    untouched = "margin" not in file.lines and objective.margin == type(objective).model_fields["margin"].default
    stated = {} if untouched else objective.margin
    return margin_in(stated, metric, objective.compare_on or first_compared(kpi.metric for kpi in objective.kpis))


def _of_answers(objective: Objective) -> list[str]:
    """The metrics of the KPIs in which candidates can be compared; accuracy, where none is about answers."""
    return list(dict.fromkeys(kpi.metric for kpi in objective.kpis if kpi.metric not in SCOPE_METRICS)) or ["accuracy"]


@dataclass(frozen=True)
class _Offer:
    """A metric with its margin, and the smallest one that dev and test can prove."""

    metric: str
    margin: float
    dev: float
    test: float

    @property
    def least(self) -> float:
        """What both can prove."""
        return max(self.dev, self.test)

    @property
    def proves(self) -> bool:
        """Whether two candidates that never differ would be proven to tie."""
        return self.least <= self.margin


def _offer(metric: str, file: ObjectiveFile, manifest: SnapshotManifest, groups: GroupSizes) -> _Offer:
    confidence = file.objective.business.risk.confidence
    dev = _smallest(metric, manifest, Split.DEV, groups, confidence)
    test = _smallest(metric, manifest, Split.TEST, groups, spend(confidence, 1))
    return _Offer(metric, margin_for(file, metric), dev, test)


def _smallest(metric: str, manifest: SnapshotManifest, split: Split, groups: GroupSizes, confidence: float) -> float:
    """The smallest margin of ``metric``, in its unit, that ``split`` can prove at ``confidence``."""
    measure, sizes = measure_of(metric), groups(split, label_of(metric))
    items = comparable_items(metric, manifest, split, sizes)
    shared = len(sizes) if any(size > 1 for size in sizes) else None
    return measure.span * (never_differing(items, confidence, shared) if items >= 1 else 1.0)


def comparable_items(metric: str, manifest: SnapshotManifest, split: Split, sizes: Sequence[int] = ()) -> float:
    """The independent items that a difference in ``metric`` rests on; ``sizes`` are those of the groups that they fall into."""
    label = label_of(metric)
    count = sum(sizes) or manifest.unshifted(label, split)
    alike = float(len(sizes)) if any(size > 1 for size in sizes) else float(count)
    if base_of(metric) not in _OVER_LABELS:
        return alike
    support = [held for name in manifest.labels if (held := manifest.unshifted(name, split))]
    return min(alike, len(support) ** 2 / sum(1 / held for held in support)) if support else 0.0


def _words(chosen: _Offer, asked: bool, offered: int) -> Iterator[str]:
    unit = measure_of(chosen.metric).unit
    why = "as the objective asks" if asked else "the only KPI" if offered == 1 else ""
    if not why:
        why = "the first KPI whose items can prove the margin" if chosen.proves else "of the KPIs, the one whose items can prove most"
    yield f"candidates are compared on {chosen.metric}, {why}; the margin is {chosen.margin:g} ({unit})"
    if not chosen.proves:
        what = f"dev can prove no margin below {chosen.dev:.3f} and test none below {chosen.test:.3f}, even for two that never differ"
        yield f"{what}: no tie can be proven"
