"""The shifted part of the data: how candidates do on it, and how those that learned stand to one another there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

from tailorbird import evaluation
from tailorbird.domain.dataset import Row
from tailorbird.domain.evidence import Comparison, Evidence, Prediction
from tailorbird.domain.ladder import Climb, RungKind
from tailorbird.usecases.climb.metric_spec import as_lines, comparison_of, rule_of, spec_of
from tailorbird.usecases.steps.step_context import StepContext


def with_shift(context: StepContext, evidence: Evidence, rows: Sequence[Row], predictions: Sequence[Prediction], look: int = 1) -> Evidence:
    """The evidence with what the same candidate does on ``rows``, which are in the shifted part of the same split."""
    if not rows:
        return evidence
    spec = replace(spec_of(context, look), refer_below=evidence.refer_below)
    items = evaluation.item_results(rows, predictions, spec)
    metrics = evaluation.metrics_of(items, spec)
    told = {"shifted": context.deps.artifacts.put(as_lines(items)), "shifted_metrics": metrics}
    name = comparison_of(context).metric
    usual, shifted = evidence.metrics.get(name), metrics.get(name)
    if usual is None or shifted is None:
        reason = f"shift is not measured: {name} has no value on the {'usual' if usual is None else 'shifted'} items"
        return evidence.model_copy(update=told | {"unmeasured": evidence.unmeasured | {"shift": reason}})
    drop = evaluation.shift_drop(usual, shifted)
    return evidence.model_copy(update=told | {"metrics": evidence.metrics | {drop.name: drop}})


def compared_on_shifted(context: StepContext, climbs: Sequence[Climb]) -> tuple[Comparison, ...]:
    """Candidates with weights of their own (adapters, all weights), each against each cheaper one, in pairs on the shifted part of dev."""
    learned = [climb for climb in climbs if climb.rung is not RungKind.FLOOR and climb.trained_parameters and climb.evidence.shifted]
    found = []
    for lower, upper in combinations(learned, 2):
        assert lower.evidence.shifted is not None
        assert upper.evidence.shifted is not None
        sides = context.items(upper.evidence.shifted), context.items(lower.evidence.shifted)
        found.append(evaluation.compare(upper.candidate, lower.candidate, *sides, rule_of(context, upper.evidence, lower.evidence)))
    return tuple(found)
