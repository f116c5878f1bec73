"""Refusal of what is out of scope: the scorer and its threshold, chosen on dev, and what they do on a split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tailorbird import evaluation
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.dataset import Row, Split
from tailorbird.domain.errors import Internal
from tailorbird.domain.evidence import Evidence, Prediction
from tailorbird.domain.ladder import Candidate, Measured
from tailorbird.domain.scope import ScopeEvidence, ScopeRule, ScopeScorer, ScopeTrial
from tailorbird.stats.intervals import spend
from tailorbird.stats.roc import ScoredRows, compare_scorers, refusal_threshold
from tailorbird.text.scope_decision import is_outside
from tailorbird.usecases.steps import transitions
from tailorbird.usecases.steps.step_context import StepContext

#: Predictions of a split's rows, and of its examples that are out of scope.
Asked = tuple[Sequence[Prediction], Sequence[Prediction]]


def with_scope(
    context: StepContext, candidate: Candidate, evidence: Evidence, asked: Asked, trial: ScopeTrial | None = None, look: int = 1
) -> Evidence:
    """The evidence with how the candidate refuses what is out of scope, where the objective asks for that. ``trial`` compared scorers on
    labels that were left out of fitting, for candidates that can be fitted again."""
    if context.objective.task.out_of_scope is None:
        return evidence
    known = _scored(context.rows(evidence.split), asked[0])
    outside = _scored(context.outside_rows(evidence.split), asked[1])
    confidence = spend(context.objective.business.risk.confidence, look)
    kept = _kept(context, candidate)
    found = kept or _calibrated(context, known, outside, trial or _by_columns(context, asked[0], confidence))
    refused = Counter(each.answer for each in asked[0] if is_outside(each.scope, found.rule))
    points = evaluation.scope_points(found.rule.scorer, known, outside)
    found = found.model_copy(update={"points": points, "refused": dict(sorted(refused.items()))})
    metrics = {metric.name: metric for metric in evaluation.scope_metrics(found.rule, known, outside, confidence)}
    return evidence.model_copy(update={"scope": found, "metrics": evidence.metrics | metrics})


def _kept(context: StepContext, candidate: Candidate) -> ScopeEvidence | None:
    """What was calibrated when the candidate was measured on dev; None where it was not measured yet."""
    known = {climb.candidate: climb.evidence.scope for climb in context.climbs}
    if transitions.FLOOR in context.done:
        floor = context.result(Measured, transitions.FLOOR)
        known[floor.candidate] = context.record(Evidence, floor.evidence).scope
    return known.get(digest_of(candidate))


def _scored(rows: Sequence[Row], predictions: Sequence[Prediction]) -> ScoredRows:
    groups = {row.id: row.group for row in rows}
    return ScoredRows([each.scope for each in predictions], [groups[each.item] for each in predictions])


def _calibrated(context: StepContext, known: ScoredRows, outside: ScoredRows, left_out: ScopeTrial | None) -> ScopeEvidence:
    """The scorer that tells best, on examples where there are enough, and its threshold on the rows that labels fit."""
    policy = context.objective.task.out_of_scope
    assert policy is not None
    on_examples = compare_scorers("examples", [(known, outside)], context.objective.business.risk.confidence)
    trial = left_out or on_examples if context.leaves_labels_out else on_examples or left_out
    scorer = trial.best.scorer if trial else next(iter(ScopeScorer))
    threshold = refusal_threshold(known.of_groups().by(scorer), policy.refuse_known_at_most)
    if threshold is None:
        raise Internal("dev holds too few rows for the threshold of what is out of scope", "plan the climb again", code="plan_incomplete")
    return ScopeEvidence(rule=ScopeRule(scorer=scorer, refuse_below=threshold), trial=trial)


def _by_columns(context: StepContext, predictions: Sequence[Prediction], confidence: float) -> ScopeTrial | None:
    """Rows of dev whose label is not among those that may be given, each label left out once. The candidate has learned it all the same, so
    that the areas may be too large: they choose a scorer, and prove nothing."""
    return evaluation.trial_by_columns(context.manifest.labels, predictions, context.rows(Split.DEV), confidence)
