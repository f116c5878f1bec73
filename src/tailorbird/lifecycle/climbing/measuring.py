"""How an objective is measured: by which metrics, at what confidence, in which metric candidates are compared, and as which bytes results
are kept.

In: a stage. Out: a spec, comparisons, bytes. Must not know: engines, verdicts.
"""

from __future__ import annotations

from functools import cache

from tailorbird import data, evaluation
from tailorbird.domain.dataset import Row, SnapshotManifest, Split
from tailorbird.domain.evidence import Comparison, Evidence, ItemResult
from tailorbird.domain.plan import PlannedComparison
from tailorbird.domain.value import Digest, Value
from tailorbird.foundations.canonical import canonical_json
from tailorbird.foundations.statistics import spend
from tailorbird.lifecycle.steps.stage import Stage
from tailorbird.objective import GroupSizes, compared_on


def spec_of(stage: Stage, look: int) -> evaluation.MeasureSpec:
    """How the objective of a run is measured, at the confidence of this look."""
    return evaluation.MeasureSpec(
        task=stage.objective.task.kind,
        labels=stage.manifest.labels,
        confidence=spend(stage.objective.business.risk.confidence, look),
        seed=stage.objective.seed,
        price_per_hour=stage.parts.prices.per_hour,
        many=stage.many,
        form=stage.objective.task.format,
    )


def groups_of(stage: Stage, manifest: SnapshotManifest, *, shifted: bool = False) -> GroupSizes:
    """How rows of a split share groups: those of the shifted part, or the others. Of the sealed test nothing else is looked at."""

    @cache
    def rows(split: Split) -> list[Row]:
        return [row for row in data.load_rows(manifest, stage.parts.artifacts, split) if row.shifted == shifted]

    return lambda split, label: data.group_sizes(rows(split), label, many=stage.many)


def comparison_of(stage: Stage) -> PlannedComparison:
    """In which metric candidates are compared: as the plan says; where there is none yet, or one of an earlier version, as it would."""
    planned = stage.plan.comparison if stage.plan else None
    return planned or compared_on(stage.file, stage.manifest, groups_of(stage, stage.manifest))


def rule_of(stage: Stage, upper: Evidence, lower: Evidence, confidence: float | None = None) -> evaluation.ComparisonRule:
    """How two candidates of the objective are compared, at the confidence of its risk tier where no other is given."""
    found, objective = comparison_of(stage), stage.objective
    return evaluation.ComparisonRule(
        metric=found.metric,
        margin=found.margin,
        confidence=confidence or objective.business.risk.confidence,
        seed=objective.seed,
        many=stage.many,
        refer_below=(upper.refer_below, lower.refer_below),
    )


def against(stage: Stage, upper: Evidence, lower: Evidence) -> Comparison:
    """How two candidates that were measured on the same items stand to each other."""
    rule = rule_of(stage, upper, lower)
    return evaluation.compare(upper.candidate, lower.candidate, stage.items(upper.items), stage.items(lower.items), rule)


def unlike(stage: Stage, ours: Evidence, theirs: Evidence) -> frozenset[Digest]:
    """The items on which two candidates differ in the metric by which the objective compares."""
    return evaluation.differing(stage.items(ours.items), stage.items(theirs.items), rule_of(stage, ours, theirs))


class Question(Value):
    """What the sealed test is asked about a candidate: everything that its answers decide. Changing any of it afterwards is asking again.

    ``targets`` are sorted, so that their order is nothing; what they are for and limits that labels have no part in stay outside.
    """

    targets: tuple[tuple[str, float], ...]
    confidence: float
    max_error: float | None
    max_drop: float | None
    compared_on: str
    margin: float


def question_of(stage: Stage) -> Question:
    """What this run asks."""
    objective, compared = stage.objective, comparison_of(stage)
    return Question(
        targets=tuple(sorted((kpi.metric, kpi.target) for kpi in objective.kpis)),
        confidence=objective.business.risk.confidence,
        max_error=objective.referral.max_error if objective.referral else None,
        max_drop=objective.limits.shift.max_drop if objective.limits.shift else None,
        compared_on=compared.metric,
        margin=compared.margin,
    )


def as_lines(items: tuple[ItemResult, ...]) -> bytes:
    """Item results as the bytes that are kept: one a line."""
    return b"".join(canonical_json(item) + b"\n" for item in items)
