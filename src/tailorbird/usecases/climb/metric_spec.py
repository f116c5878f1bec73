"""Metric specification of an objective: metrics, confidence, the metric of comparison, and the stored form of results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

from tailorbird import data, evaluation
from tailorbird.crypto.canonical_json import canonical_json
from tailorbird.domain.dataset import Row, SnapshotManifest, Split
from tailorbird.domain.endpoint import Endpoint
from tailorbird.domain.evidence import Comparison, Evidence, ItemResult
from tailorbird.domain.ladder import Candidate
from tailorbird.domain.plan import PlannedComparison
from tailorbird.domain.value import Digest, Value
from tailorbird.objective import GroupSizes, plan_comparison
from tailorbird.stats.intervals import spend
from tailorbird.usecases.steps.step_context import StepContext


def spec_of(context: StepContext, look: int, candidate: Candidate | None = None) -> evaluation.MeasureSpec:
    """Metric specification of a run, at the confidence of this look; the answers of a hosted ``candidate`` cost what the plan says."""
    endpoint = endpoint_behind(context, candidate) if candidate else None
    return evaluation.MeasureSpec(
        task=context.objective.task.kind,
        labels=context.manifest.labels,
        confidence=spend(context.objective.business.risk.confidence, look),
        seed=context.objective.seed,
        price_per_hour=context.deps.prices.per_hour,
        many=context.many,
        form=context.objective.task.format,
        order=context.objective.task.label_order,
        refer_pattern=context.objective.referral.pattern if context.objective.referral else None,
        token_prices=(endpoint.cost(1, 0), endpoint.cost(0, 1)) if endpoint else None,
    )


def endpoint_behind(context: StepContext, candidate: Candidate) -> Endpoint | None:
    """The endpoint of a hosted candidate, with the prices of the plan; None for another."""
    endpoints = (rung.endpoint for rung in (context.plan.rungs if context.plan else ()) if rung.endpoint)
    return next((each for each in endpoints if candidate.hosted and each.name == candidate.hosted.endpoint), None)


#: The items of a split.
ItemsOf = Callable[[Split], Sequence[Row]]


def items_of(context: StepContext, manifest: SnapshotManifest) -> ItemsOf:
    """Reads the items of each split once, for whatever is asked of them: half a minute for a million rows."""
    return cache(lambda split: data.load_items(manifest, context.deps.artifacts, split))


def groups_of(context: StepContext, manifest: SnapshotManifest, items: ItemsOf | None = None, *, shifted: bool = False) -> GroupSizes:
    """Cluster sizes of the items of a split: those of the shifted part, or the others. Of the sealed test nothing else is read."""
    found = items or items_of(context, manifest)

    @cache
    def rows(split: Split) -> list[Row]:
        return [row for row in found(split) if row.shifted == shifted and manifest.is_known(row)]

    return lambda split, label: data.group_sizes(rows(split), label, many=context.many)


def comparison_of(context: StepContext) -> PlannedComparison:
    """In which metric candidates are compared: as the plan says; where there is none yet, or one of an earlier version, as it would."""
    planned = context.plan.comparison if context.plan else None
    return planned or plan_comparison(context.file, context.manifest, groups_of(context, context.manifest))


def rule_of(context: StepContext, upper: Evidence, lower: Evidence, confidence: float | None = None) -> evaluation.ComparisonRule:
    """Comparison rule of two candidates, at the confidence of the objective's risk tier where no other is given."""
    found, objective = comparison_of(context), context.objective
    return evaluation.ComparisonRule(
        metric=found.metric,
        margin=found.margin,
        confidence=confidence or objective.business.risk.confidence,
        seed=objective.seed,
        many=context.many,
        refer_below=(upper.refer_below, lower.refer_below),
    )


def against(context: StepContext, upper: Evidence, lower: Evidence) -> Comparison:
    """Comparison of two candidates that were measured on the same items."""
    rule = rule_of(context, upper, lower)
    return evaluation.compare(upper.candidate, lower.candidate, context.items(upper.items), context.items(lower.items), rule)


def unlike(context: StepContext, ours: Evidence, theirs: Evidence) -> frozenset[Digest]:
    """The items on which two candidates differ in the metric by which the objective compares."""
    return evaluation.differing_items(context.items(ours.items), context.items(theirs.items), rule_of(context, ours, theirs))


class SealedQuestion(Value):
    """Question to the sealed test about a candidate: everything that its answers decide. Changing any of it afterwards is a new look.

    ``targets`` are sorted, so that their order is nothing; what they are for and limits that labels have no part in stay outside.
    """

    targets: tuple[tuple[str, float], ...]
    confidence: float
    max_error: float | None
    refer_pattern: str | None = None
    max_drop: float | None
    compared_on: str
    margin: float


def question_of(context: StepContext) -> SealedQuestion:
    """Question of this run."""
    objective, compared = context.objective, comparison_of(context)
    return SealedQuestion(
        targets=tuple(sorted((kpi.metric, kpi.target) for kpi in objective.kpis)),
        confidence=objective.business.risk.confidence,
        max_error=objective.referral.max_error if objective.referral else None,
        refer_pattern=objective.referral.pattern if objective.referral else None,
        max_drop=objective.limits.shift.max_drop if objective.limits.shift else None,
        compared_on=compared.metric,
        margin=compared.margin,
    )


def as_lines(items: tuple[ItemResult, ...]) -> bytes:
    """Item results as the bytes that are kept: one a line."""
    return b"".join(canonical_json(item) + b"\n" for item in items)
