"""How an objective is measured: by which metrics, at what confidence, and as which bytes the results are kept.

In: a stage. Out: a spec, a metric's name, bytes. Must not know: candidates, engines, verdicts.
"""

from __future__ import annotations

from tailorbird import evaluation
from tailorbird.domain.evidence import ItemResult
from tailorbird.domain.objective import TaskKind
from tailorbird.foundations.canonical import canonical_json
from tailorbird.foundations.statistics import spend
from tailorbird.lifecycle.steps.stage import Stage


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


def comparison_metric(stage: Stage) -> str:
    """The metric by which two rungs are compared."""
    if stage.objective.task.kind is TaskKind.RANK:
        return "ndcg@10"
    return "accuracy" if stage.objective.task.kind is TaskKind.CLASSIFY and not stage.many else "exact_match"


def as_lines(items: tuple[ItemResult, ...]) -> bytes:
    """Item results as the bytes that are kept: one a line."""
    return b"".join(canonical_json(item) + b"\n" for item in items)
