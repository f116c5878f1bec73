"""Measurement of a candidate: predictions by the serving engine, metrics with intervals, the shifted part of the data, and remarks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

from tailorbird import evaluation
from tailorbird.crypto.canonical_json import canonical_json, digest_of
from tailorbird.domain.dataset import Row, Split
from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import Internal
from tailorbird.domain.evidence import Comparison, Evidence, ItemResult, Metric, Prediction
from tailorbird.domain.ladder import Candidate, Climb, Making, Measured, RungKind
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import PromptSearch, Sampling
from tailorbird.domain.run import TrainingPlateau, TrainingReport
from tailorbird.domain.scope import ScopeEvidence, ScopeRule, ScopeScorer, ScopeTrial
from tailorbird.ports.engine import Engine
from tailorbird.stats.intervals import spend
from tailorbird.stats.roc import ScoredRows, compare_scorers, refusal_threshold
from tailorbird.text.label_rules import is_outside
from tailorbird.usecases.audit_events import Facts
from tailorbird.usecases.climb import regression_limits
from tailorbird.usecases.climb.hosted_engine import HostedEngine, engine_for, tell_further, with_use
from tailorbird.usecases.climb.metric_spec import as_lines, comparison_of, rule_of, spec_of
from tailorbird.usecases.dependencies import Progress
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


#: How candidates are asked.
SAMPLING = Sampling(max_tokens=256)


def examine(context: StepContext, candidate: Candidate, split: Split, look: int = 1, trial: ScopeTrial | None = None) -> Evidence:
    """Runs a candidate over one split with the serving engine and turns its answers into evidence, at the confidence of this look.
    ``trial`` as in ``with_scope``."""
    rows, shifted, outside = context.rows(split), context.shifted_rows(split), context.outside_rows(split)
    servable = context.servable(candidate)
    engine = engine_for(context, servable, split.value, len(rows) + len(shifted) + len(outside))
    if candidate.hosted is not None:
        tell_further(context, candidate.hosted, regression_limits.further_rows(context, split))
    context.progress.tell(f"measuring {candidate.rung.value} {candidate.variant} on {len(rows)} {split.value} items")
    engine.load(servable)
    try:
        predictions = _ask(context, engine, servable, rows)
        served = regression_limits.served(
            context, candidate, split, look, predictions, lambda more: _ask(_quietly(context), engine, servable, more)
        )
        beyond = _ask(context, engine, servable, shifted, timed=0) if shifted else []
        strange = _ask(context, engine, servable, outside, timed=0) if outside else []
    finally:
        engine.unload(servable.id)
    evidence = with_served(weigh(context, candidate, rows, predictions, engine.fingerprint(), look), served)
    evidence = with_scope(context, candidate, evidence, (predictions, strange), trial, look)
    if isinstance(engine, HostedEngine):
        evidence = with_use(evidence, engine.use)
    return with_shift(context, evidence, shifted, beyond, look)


def _quietly(context: StepContext) -> StepContext:
    """The context without its progress: requests that are timed one by one are counted by whoever asks for them."""
    return replace(context, progress=Progress())


def _ask(context: StepContext, engine: Engine, servable: Servable, rows: tuple[Row, ...], timed: int | None = None) -> list[Prediction]:
    """Answers to rows; latency is told by the first ``timed`` (None: as usual)."""
    ask = evaluation.ranked_predictions if context.objective.task.kind is TaskKind.RANK else evaluation.engine_predictions
    asked = evaluation.PredictionRequest(
        engine=engine,
        servable=servable,
        rows=rows,
        progress=context.progress.count,
        sampling=SAMPLING,
        concurrency=limited_concurrency(context),
    )
    return ask(asked if timed is None else replace(asked, timed=timed))


def with_served(evidence: Evidence, served: dict[str, Metric]) -> Evidence:
    """Evidence with latency and cost as timed for their limits, in place of those of the items."""
    return evidence.model_copy(update={"metrics": evidence.metrics | served})


def weigh(
    context: StepContext, candidate: Candidate, rows: tuple[Row, ...], predictions: list[Prediction], engine: str, look: int = 1
) -> Evidence:
    """Predictions on rows of one split turned into metrics with intervals; every item's result is kept as an artifact."""
    spec = spec_of(context, look, candidate)
    items = evaluation.item_results(rows, predictions, spec)
    spec = replace(spec, refer_below=_threshold(context, candidate, items, spec))
    return Evidence(
        candidate=digest_of(candidate),
        split=rows[0].split,
        n=len(rows),
        metrics=evaluation.metrics_of(items, spec),
        items=context.deps.artifacts.put(as_lines(items)),
        seconds=sum(prediction.latency_ms for prediction in predictions) / 1000,
        engine=engine,
        refer_below=spec.refer_below,
        breakdown=context.deps.artifacts.put(canonical_json(evaluation.break_down(rows, items, spec))),
        compared_on=comparison_of(context).metric,
        remarks=evaluation.degenerate_answer_remarks(items, spec),
    )


def _threshold(context: StepContext, candidate: Candidate, items: tuple[ItemResult, ...], spec: evaluation.MeasureSpec) -> float | None:
    """Below which probability an item is referred: calibrated when a candidate is measured on dev, and kept from then on."""
    referral = context.objective.referral
    if referral is None or referral.max_error is None:
        return None
    known = {climb.candidate: climb.evidence.refer_below for climb in context.climbs}
    if transitions.FLOOR in context.done:
        floor = context.result(Measured, transitions.FLOOR)
        known[floor.candidate] = context.record(Evidence, floor.evidence).refer_below
    kept = known.get(digest_of(candidate))
    return evaluation.referral_threshold(items, referral.max_error, spec.confidence) if kept is None else kept


def limited_concurrency(context: StepContext) -> int:
    """Requests at a time for which latency is limited."""
    return limit.at_concurrency if (limit := context.objective.limits.latency_p95_ms) else 1


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


def headline(context: StepContext, evidence: Evidence) -> Facts:
    """The metric in which candidates are compared, as a fact of the log."""
    name = comparison_of(context).metric
    metric = evidence.metrics.get(name)
    return {"metric": name, "value": round(metric.value, 4) if metric else None}


def costs_of(context: StepContext, seconds: float) -> dict[str, float]:
    """Money and energy of so many seconds on this machine."""
    hours, prices = seconds / 3600, context.deps.prices
    return {"money": hours * prices.per_hour, "energy_kwh": hours * prices.watts / 1000}


def remarks_of(context: StepContext, making: Making, evidence: Evidence) -> tuple[str, ...]:
    """The remarks on a measured rung, those on its training or its search first."""
    report = context.record(TrainingReport, making.training) if making.training else None
    stood = (plateau_text(report.plateau, context.objective.task.kind),) if report and report.plateau else ()
    taken = (f"its weights are reused from run {making.reused.run}, which trained the same job",) if making.reused else ()
    searched = (context.record(PromptSearch, making.search).sentence,) if making.search else ()
    return (*taken, *searched, *stood, *evidence.remarks)


def plateau_text(plateau: TrainingPlateau, kind: TaskKind) -> str:
    """A sentence on a training that stood still for some time, or to its end."""
    what = "the loss of label frequencies alone" if kind is TaskKind.CLASSIFY else "the loss of the untrained model"
    added = f", although {plateau.added} steps were added" if plateau.added else ""
    if plateau.left is None:
        return (
            f"training did not get clearly below {what} ({plateau.loss:.2f} nats an answer; it reached {plateau.held_out:.2f} on rows held "
            f"out{added}): it has learned little or nothing"
        )
    return f"training stood at {what} ({plateau.loss:.2f} nats an answer) until step {plateau.left}, so {plateau.added} steps were added"
