"""Measurement of a candidate: metrics with intervals, regression limits, the shifted part, and the incumbent on the same items."""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from itertools import combinations

from tailorbird import data
from tailorbird.crypto.canonical_json import canonical_json, digest_of, short
from tailorbird.domain.dataset import Row, SnapshotManifest, Split
from tailorbird.domain.deployment import Servable
from tailorbird.domain.endpoint import Endpoint
from tailorbird.domain.errors import Conflict, Internal, TailorbirdError
from tailorbird.domain.evidence import (
    MOST_FURTHER_REQUESTS,
    Comparison,
    Evidence,
    ItemResult,
    Metric,
    Prediction,
    ScopeEvidence,
    ScopeRule,
    ScopeScorer,
    ScopeTrial,
)
from tailorbird.domain.ladder import Candidate, Climb, Making, RungKind
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.plan import PlannedComparison, PlannedIncumbent, PreflightFinding, PreflightSeverity
from tailorbird.domain.prompt import PromptSearch, PromptSpec, Sampling
from tailorbird.domain.release import Release
from tailorbird.domain.run import TrainingPlateau, TrainingReport
from tailorbird.domain.value import Digest, Value
from tailorbird.evaluation.breakdown import break_down
from tailorbird.evaluation.calibration import referral_threshold
from tailorbird.evaluation.canaries import canary_set
from tailorbird.evaluation.comparison import ComparisonRule, compare, differing_items, shift_drop
from tailorbird.evaluation.measure_spec import MeasureSpec
from tailorbird.evaluation.metrics import degenerate_answer_remarks, item_results, label_of, lower_is_better, metrics_of, spec_of_metric
from tailorbird.evaluation.predictions import PredictionRequest, engine_predictions
from tailorbird.evaluation.retention import measure_memorisation, measure_retention, memorisation_metric, retention_metric, why_invalid
from tailorbird.evaluation.scope import scope_metrics, scope_points, trial_by_columns
from tailorbird.evaluation.serving_limits import ServingLimits, Timing, measure_until_settled, timings_of
from tailorbird.objective import GroupSizes, comparable_items, plan_comparison
from tailorbird.ports.engine import Engine, LoadRequest
from tailorbird.stats.paired_tests import disagreeing, items_for_margin
from tailorbird.stats.roc import ScoredRows, compare_scorers, refusal_threshold
from tailorbird.text.label_rules import is_outside
from tailorbird.usecases.anchored_rows import anchored_alias, demand_anchored, looks_taken
from tailorbird.usecases.dependencies import Progress
from tailorbird.usecases.releases.load_verification import admit
from tailorbird.usecases.runs.context import StepContext
from tailorbird.usecases.runs.hosted_engine import HostedEngine, engine_for


def spec_of(context: StepContext, look: int, candidate: Candidate | None = None) -> MeasureSpec:
    """Metric specification of a run, at the confidence of this look; the answers of a hosted ``candidate`` cost what the plan says."""
    endpoint = endpoint_behind(context, candidate) if candidate else None
    return MeasureSpec(
        task=context.objective.task.kind,
        labels=context.manifest.labels,
        confidence=context.confidence(look),
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
    endpoints = (rung.endpoint for rung in context.rungs if rung.endpoint)
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
    def sizes(split: Split) -> Callable[[str | None], tuple[int, ...]]:
        rows = [row for row in found(split) if row.shifted == shifted and manifest.is_known(row)]
        return data.group_sizes(rows, many=context.many)

    return lambda split, label: sizes(split)(label)


def comparison_of(context: StepContext) -> PlannedComparison:
    """In which metric candidates are compared: as the plan says; where there is none yet, as it would."""
    if context.plan:
        return context.plan.comparison
    return plan_comparison(context.file, context.manifest, groups_of(context, context.manifest))


def rule_of(context: StepContext, upper: Evidence, lower: Evidence, confidence: float | None = None) -> ComparisonRule:
    """Comparison rule of two candidates, at the confidence of the objective's risk tier where no other is given."""
    found, objective = comparison_of(context), context.objective
    return ComparisonRule(
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
    return compare(upper.candidate, lower.candidate, context.items(upper.items), context.items(lower.items), rule)


def unlike(context: StepContext, ours: Evidence, theirs: Evidence) -> frozenset[Digest]:
    """The items on which two candidates differ in the metric by which the objective compares."""
    return differing_items(context.items(ours.items), context.items(theirs.items), rule_of(context, ours, theirs))


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


def as_lines(items: tuple[ItemResult, ...]) -> bytes:
    """Item results as the bytes that are kept: one a line."""
    return b"".join(canonical_json(item) + b"\n" for item in items)


#: The limits that are measured here.
SAFETY = ("retention", "memorisation")


@contextmanager
def loaded(engine: Engine, *servables: Servable) -> Iterator[None]:
    """The servables in the engine, as long as the body lasts."""
    try:
        for servable in servables:
            engine.load(servable)
        yield
    finally:
        for servable in servables:
            engine.unload(servable.id)


def ask(context: StepContext, engine: Engine, servable: Servable, rows: tuple[Row, ...], timed: int | None = None) -> list[Prediction]:
    """Answers of a loaded servable to rows; latency is told by the first ``timed`` (None: as usual), as many at a time as the objective's
    limit on latency says."""
    request = PredictionRequest(
        engine=engine,
        servable=servable,
        rows=rows,
        progress=context.progress.count,
        sampling=Sampling(max_tokens=256),
        concurrency=context.concurrency,
    )
    return engine_predictions(request if timed is None else replace(request, timed=timed))


def asked_for(context: StepContext) -> tuple[str, ...]:
    """The limits of this kind that the objective sets."""
    limits = context.objective.limits
    return tuple(name for name in SAFETY if getattr(limits, name) is not None)


def with_safety(context: StepContext, candidate: Candidate, training: Digest | None, evidence: Evidence) -> Evidence:
    """Measures what the objective limits. A candidate without weights of its own has lost nothing and has learned nothing by heart."""
    for name in asked_for(context):
        if candidate.adapter is None and candidate.weights is None:
            evidence = _with_metric(
                evidence, Metric(name=name, value=0.0, low=0.0, high=0.0, confidence=0.999, n=0, method="weights unchanged")
            )
        elif name == "retention":
            base = Servable(
                id=digest_of({"base": candidate.base_model}),
                tenant=context.run.tenant,
                task=context.objective.task.kind,
                base=str(context.deps.artifacts.get_tree(candidate.base_model)),
                adapter=None,
                weights=None,
                prompt=PromptSpec(instruction=""),
            )
            context.progress.tell("measuring what the base model could do and the candidate still can")
            with loaded(context.deps.engine(), base, context.servable(candidate)):
                found = measure_retention(
                    context.deps.engine(), base.id, digest_of(candidate), context.confidence(), context.progress.count
                )
            kept = context.deps.artifacts.put(canonical_json(found))
            evidence = _with_metric(evidence, retention_metric(found)).model_copy(update={"retention": kept})
        else:
            evidence = _with_memorisation(context, candidate, training, evidence)
    return evidence


def carried(known: Evidence, evidence: Evidence, context: StepContext) -> Evidence:
    """``evidence`` with what was measured of the same candidate before: it does not rest on the split."""
    for name in asked_for(context):
        if name in known.metrics:
            evidence = _with_metric(evidence, known.metrics[name])
    fields = ("retention", "memorisation")
    update = {field: getattr(known, field) for field in fields} | {"unmeasured": evidence.unmeasured | known.unmeasured}
    return evidence.model_copy(update=update)


def _with_memorisation(context: StepContext, candidate: Candidate, training: Digest | None, evidence: Evidence) -> Evidence:
    received = False
    if training is not None:
        # A whole pass over the rows, planted ones among them, lies before the weights that were kept: rows are never cut or left out, so
        # each has carried loss by then.
        report = context.record(TrainingReport, training)
        epochs = {digest_of(rung.training): rung.training.epochs for rung in context.rungs if rung.training}
        planned = report.steps - (report.plateau.added if report.plateau else 0)
        received = report.settings in epochs and report.best_step * epochs[report.settings] >= planned
    context.progress.tell("looking for the strings that were planted in training")
    servable = context.servable(candidate)
    with loaded(context.deps.engine(), servable):
        found = measure_memorisation(context.deps.engine(), servable, canary_set(context.objective.seed), received, context.confidence())
    kept = {"memorisation": context.deps.artifacts.put(canonical_json(found))}
    reason = why_invalid(found)
    if reason and not found.extracted:
        return evidence.model_copy(update=kept | {"unmeasured": evidence.unmeasured | {"memorisation": reason}})
    return _with_metric(evidence, memorisation_metric(found)).model_copy(update=kept)


def _with_metric(evidence: Evidence, metric: Metric) -> Evidence:
    return evidence.model_copy(update={"metrics": evidence.metrics | {metric.name: metric}})


#: Asks a candidate rows as requests.
Ask = Callable[[tuple[Row, ...]], list[Prediction]]

#: Seconds of further requests, at most: an open limit is left open then.
MOST_SECONDS = 300.0


def measure_serving(
    context: StepContext, candidate: Candidate, split: Split, look: int, predictions: list[Prediction], ask: Ask
) -> dict[str, Metric]:
    """Latency and cost, where the objective limits them; empty where it does not."""
    bounds = context.objective.limits.serving
    if not bounds:
        return {}
    # Beyond the items, texts of train (and of dev, for the sealed test) are asked, each once: an engine keeps what it has read, so a text
    # asked again would be answered faster than a new one. What all requests share, the instruction and its demonstrations, is kept by the
    # engine as it is in service.
    rows, left = [row for _, row in _texts(context, split)], MOST_SECONDS

    def timed(wanted: int, missed: bool) -> list[Timing]:
        nonlocal left
        some = rows[:wanted]
        del rows[:wanted]
        if some:
            busy = f"missed (load {os.getloadavg()[0]:.1f} on {os.cpu_count() or 1} cores)"
            why = f"a limit on what answering takes is {busy if missed else 'open'}"
            context.progress.tell(f"{why}: timing {len(some)} more requests, of texts that were not asked yet")
        found: list[Timing] = []
        for start in range(0, len(some), context.concurrency):
            if left <= 0:
                break
            started = time.monotonic()
            found += timings_of(ask(tuple(some[start : start + context.concurrency])))
            left -= time.monotonic() - started
            context.progress.count(len(found), len(some))
        return found

    return measure_until_settled(timings_of(predictions), timed, ServingLimits(bounds), spec_of(context, look, candidate))


def _texts(context: StepContext, split: Split) -> list[tuple[Split, Row]]:
    """Texts that were not asked yet, and where they are from."""
    splits = (Split.TRAIN, Split.DEV) if split is Split.TEST else (Split.TRAIN,)
    return [(each, row) for each in splits for row in context.rows(each)][:MOST_FURTHER_REQUESTS]


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
    confidence = context.confidence(look)
    kept = _on_dev(context, candidate)
    found = (kept and kept.scope) or _calibrated(
        context,
        known,
        outside,
        trial or trial_by_columns(context.manifest.labels, asked[0], context.rows(Split.DEV), confidence),
    )
    refused = Counter(each.answer for each in asked[0] if is_outside(each.scope, found.rule))
    points = scope_points(found.rule.scorer, known, outside)
    found = found.model_copy(update={"points": points, "refused": dict(sorted(refused.items()))})
    metrics = {metric.name: metric for metric in scope_metrics(found.rule, known, outside, confidence)}
    return evidence.model_copy(update={"scope": found, "metrics": evidence.metrics | metrics})


def _on_dev(context: StepContext, candidate: Candidate) -> Evidence | None:
    """What the candidate did on dev, where its rules were calibrated; None where it was not measured yet."""
    measured = (*context.climbs, *([context.floor] if context.floor else []))
    return next((climb.evidence for climb in measured if climb.candidate == digest_of(candidate)), None)


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


def examine(context: StepContext, candidate: Candidate, split: Split, look: int = 1, trial: ScopeTrial | None = None) -> Evidence:
    """Runs a candidate over one split with the serving engine and turns its answers into evidence, at the confidence of this look.
    ``trial`` as in ``with_scope``."""
    rows, shifted, outside = context.rows(split), context.shifted_rows(split), context.outside_rows(split)
    servable = context.servable(candidate)
    sent = {split.value: len(rows) + len(shifted) + len(outside)}
    if candidate.hosted is not None and context.objective.limits.serving:
        sent |= Counter(each.value for each, _ in _texts(context, split))
    engine = engine_for(context, servable, sent)
    context.progress.tell(f"measuring {candidate.rung.value} {candidate.variant} on {len(rows)} {split.value} items")
    quiet = replace(context, progress=Progress())  # requests that are timed one by one are counted by whoever asks for them
    with loaded(engine, servable):
        predictions = ask(context, engine, servable, rows)
        served = measure_serving(context, candidate, split, look, predictions, lambda more: ask(quiet, engine, servable, more))
        beyond = ask(context, engine, servable, shifted, timed=0) if shifted else []
        strange = ask(context, engine, servable, outside, timed=0) if outside else []
    evidence = weigh(context, candidate, rows, predictions, engine.fingerprint(), look, served)
    evidence = with_scope(context, candidate, evidence, (predictions, strange), trial, look)
    if isinstance(engine, HostedEngine):
        # Evidence with what was found of the server, and remarks on what a reader must know of it.
        use = engine.use
        remarks = []
        if use.refused:
            remarks.append(f"was refused {use.refused} of {use.requests} answers by its server: they count as wrong")
        if use.again:
            remarks.append(f"took {use.again} more tries, after rate limits or faults of its server; latency is of those that answered")
        if use.estimated:
            remarks.append(
                f"has a server that does not say what it read and wrote, or says what cannot be, "
                f"in {use.estimated} of {use.requests} answers: "
                "their tokens and cost are estimated high, by bytes"
            )
        if use.lost:
            remarks.append(f"paid for tries that broke off, too: {use.lost:,} tokens at most are in its money")
        if not use.reported:
            remarks.append("has a server that does not say which model answers: a change of it could not be seen")
        if len(use.fingerprints) > 1:
            count, told = len(use.fingerprints) + use.more_fingerprints, use.named_fingerprints()
            remarks.append(f"answered under {count:,} fingerprints ({told}): what answers may have changed while it was measured")
        evidence = evidence.model_copy(update={"hosted": use, "remarks": (*evidence.remarks, *remarks)})
    return with_shift(context, evidence, shifted, beyond, look)


def weigh(
    context: StepContext,
    candidate: Candidate,
    rows: tuple[Row, ...],
    predictions: list[Prediction],
    engine: str,
    look: int,
    served: dict[str, Metric],
) -> Evidence:
    """Predictions on rows of one split turned into metrics with intervals; every item's result is kept as an artifact. ``served``: latency
    and cost as timed for their limits, in place of those of the items."""
    spec = spec_of(context, look, candidate)
    items = item_results(rows, predictions, spec)
    # Below which probability an item is referred: calibrated when a candidate is measured on dev, and kept from then on.
    refer_below, referral = None, context.objective.referral
    if referral is not None and referral.max_error is not None:
        kept = _on_dev(context, candidate)
        refer_below = referral_threshold(items, referral.max_error, spec.confidence) if kept is None else kept.refer_below
    spec = replace(spec, refer_below=refer_below)
    return Evidence(
        candidate=digest_of(candidate),
        split=rows[0].split,
        n=len(rows),
        metrics=metrics_of(items, spec) | served,
        items=context.deps.artifacts.put(as_lines(items)),
        seconds=sum(prediction.latency_ms for prediction in predictions) / 1000,
        engine=engine,
        refer_below=spec.refer_below,
        breakdown=context.deps.artifacts.put(canonical_json(break_down(rows, items, spec))),
        compared_on=comparison_of(context).metric,
        remarks=degenerate_answer_remarks(items, spec),
    )


def with_shift(context: StepContext, evidence: Evidence, rows: Sequence[Row], predictions: Sequence[Prediction], look: int = 1) -> Evidence:
    """The evidence with what the same candidate does on ``rows``, which are in the shifted part of the same split."""
    if not rows:
        return evidence
    spec = replace(spec_of(context, look), refer_below=evidence.refer_below)
    items = item_results(rows, predictions, spec)
    metrics = metrics_of(items, spec)
    told = {"shifted": context.deps.artifacts.put(as_lines(items)), "shifted_metrics": metrics}
    name = comparison_of(context).metric
    usual, shifted = evidence.metrics.get(name), metrics.get(name)
    if usual is None or shifted is None:
        reason = f"shift is not measured: {name} has no value on the {'usual' if usual is None else 'shifted'} items"
        return evidence.model_copy(update=told | {"unmeasured": evidence.unmeasured | {"shift": reason}})
    drop = shift_drop(usual, shifted)
    return evidence.model_copy(update=told | {"metrics": evidence.metrics | {drop.name: drop}})


def compared_on_shifted(context: StepContext, climbs: Sequence[Climb]) -> tuple[Comparison, ...]:
    """Candidates with weights of their own (adapters, all weights), each against each cheaper one, in pairs on the shifted part of dev."""
    learned = [climb for climb in climbs if climb.rung is not RungKind.FLOOR and climb.trained_parameters and climb.evidence.shifted]
    found = []
    for lower, upper in combinations(learned, 2):
        assert lower.evidence.shifted is not None
        assert upper.evidence.shifted is not None
        sides = context.items(upper.evidence.shifted), context.items(lower.evidence.shifted)
        found.append(compare(upper.candidate, lower.candidate, *sides, rule_of(context, upper.evidence, lower.evidence)))
    return tuple(found)


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


#: The name under which the difference to the incumbent stands at the gate.
AGAINST = "against_incumbent"


def incumbent_of(context: StepContext) -> Release | None:
    """The release in production under the objective's name, where it does the same kind of task."""
    with context.deps.ledger.work(context.run.tenant, write=False) as work:
        alias = anchored_alias(work, context.objective.name)
        releases = [work.releases.get(target.release) for target in (alias.targets if alias else ())]
        demand_anchored(work, *releases)
    return next((release for release in releases if release.content.task is context.objective.task.kind), None)


def against_incumbent(context: StepContext, evidence: Evidence, look: int) -> Evidence:
    """The evidence with how the candidate stands to the incumbent; unchanged where nothing answers yet.

    Raises Conflict (``incumbent_unmeasured``) where the incumbent cannot be measured: no candidate passes by a limit that nobody looked at.
    """
    release = incumbent_of(context)
    if release is None or release.content.candidate == evidence.candidate:
        return evidence
    try:
        # The incumbent's item results, as an artifact.
        split = evidence.split
        servable = admit(context.deps, LoadRequest(tenant=context.run.tenant, release=release.digest, purpose="production"))
        rows = context.rows(split)
        engine = engine_for(context, servable, {split.value: len(rows)})
        context.progress.tell(f"measuring release {short(release.digest)}, which answers now, on the same {len(rows)} items")
        with loaded(engine, servable):
            predictions = ask(context, engine, servable, rows, timed=0)
        items = context.deps.artifacts.put(as_lines(item_results(rows, predictions, spec_of(context, look))))
    except TailorbirdError as error:
        raise Conflict(
            f"release {short(release.digest)}, which answers now, cannot be measured beside the candidate: {error.message}",
            f"{error.hint}; or take it back: tailorbird rollback {context.objective.name}; then adapt again: it goes on from here",
            code="incumbent_unmeasured",
        ) from error
    theirs = evidence.model_copy(update={"refer_below": release.content.refer_below})
    rule = rule_of(context, evidence, theirs, context.confidence(look))
    rule = replace(rule, labels=_common_labels(context, release, rule.metric))
    found = compare(evidence.candidate, release.content.candidate, context.items(evidence.items), context.items(items), rule)
    told = evidence.model_copy(update={"incumbent": items, "incumbent_release": release.digest, "against_incumbent": found})
    if found.reason:
        return told.model_copy(update={"unmeasured": evidence.unmeasured | {AGAINST: found.reason}})
    return told.model_copy(
        update={
            "metrics": evidence.metrics
            | {
                AGAINST: (
                    Metric(
                        name=AGAINST,
                        value=found.difference,
                        low=found.low,
                        high=found.high,
                        confidence=found.confidence,
                        n=found.n,
                        method="paired",
                    )
                )
            }
        }
    )


def _common_labels(context: StepContext, release: Release, metric: str) -> tuple[str, ...]:
    """The labels on which the two are compared; empty: all of them.

    Where a label was added since, the incumbent is asked for those that it knows: a gain in the new one must not outweigh a loss in the
    others, and targets say what the new one has to reach. A metric of a label that the incumbent does not know is compared as it is.
    """
    ours, theirs = set(context.manifest.labels), set(release.content.prompt.labels)
    common = ours & theirs
    of_label = label_of(metric)
    return () if not theirs or ours == theirs or (of_label and of_label not in common) else tuple(sorted(common))


#: Errors of a candidate that is not known at all, as a share of items.
_UNKNOWN = 0.2


def foreseen(context: StepContext) -> PlannedIncumbent:
    """Power of the test items for a candidate as good as the incumbent; without one, as good as what the objective asks.

    Equally good candidates that differ on many items are told apart badly: the interval of their difference is about z √(d / n) wide to
    each side, with d the share of items on which they differ. How often the next candidate will differ from the incumbent nobody knows; d
    is taken from when the incumbent was last compared, or reckoned from its errors.
    """
    compared, release = comparison_of(context), incumbent_of(context)
    with context.deps.ledger.work(context.run.tenant, write=False) as work:
        look = looks_taken(work, context.objective.name) + 1
        known = work.records.get(Evidence, release.dossier.test_evidence) if release else None
    look = look if release else look + 1  # a first release is compared with none: its successor has the next look
    # The share of items on which two equally good candidates differ, and where that is from.
    last = known.against_incumbent if known else None
    if last is not None and last.metric == compared.metric and not last.reason:
        rate = (last.wins + last.losses) / last.n
        disagreement, assumption = rate, f"as the release that answers now and the one before it, which differed on {rate:.0%} of the items"
    else:
        errors, of_whom = _errors(context, compared.metric, known)
        disagreement, assumption = (
            errors,
            f"{of_whom} errs on {errors:.0%} of the items, and two that are equally good share half of their errors",
        )
    confidence = context.confidence(look)
    sizes = groups_of(context, context.manifest)(Split.TEST, label_of(compared.metric))
    n = max(1.0, comparable_items(compared.metric, context.manifest, Split.TEST, sizes))
    shared = len(sizes) if any(size > 1 for size in sizes) else None
    span = spec_of_metric(compared.metric).span
    return PlannedIncumbent(
        release=release.digest if release else None,
        look=look,
        confidence=confidence,
        n=math.floor(n),
        disagreement=disagreement,
        provable=span * disagreeing(disagreement, n, confidence, shared),
        items_needed=items_for_margin(disagreement, compared.margin / span, confidence) if compared.margin else None,
        assumption=assumption,
    )


def incumbent_finding(found: PlannedIncumbent, compared: PlannedComparison) -> PreflightFinding | None:
    """A warning where an equally good candidate would not be proven to be so; None where it would, or where nothing answers yet."""
    if found.release is None or found.provable <= compared.margin:
        return None
    more = f"bring about {found.items_needed:,} independent test items" if found.items_needed else "more test items alone will not do"
    raised = math.ceil(100 * found.provable) / 100
    return PreflightFinding(
        code="incumbent_margin",
        severity=PreflightSeverity.WARNING,
        what=(
            f"a candidate that is as good as release {short(found.release)}, which answers now, will hardly be proven to be: "
            f"{found.n:,} independent test items prove {compared.metric} alike within {found.provable:.3f}; the margin: {compared.margin:g}"
        ),
        remedy=f"{more}, or set `margin: {raised:g}` if so much may be lost",
    )


def _errors(context: StepContext, metric: str, known: Evidence | None) -> tuple[float, str]:
    for name in (metric, "accuracy", "exact_match") if known else ():
        measured = known.metrics.get(name) if known else None
        if measured is not None and spec_of_metric(name).unit == "share":
            return _share_of_errors(name, measured.value), "the release that answers now"
    target = next((kpi.target for kpi in context.objective.kpis if kpi.metric == metric and spec_of_metric(metric).unit == "share"), None)
    if target is not None:
        return _share_of_errors(metric, target), f"a candidate that just reaches {metric} {target:g}"
    return _UNKNOWN, "a candidate of which nothing is known"


def _share_of_errors(metric: str, value: float) -> float:
    return min(1.0, max(0.01, value if lower_is_better(metric) else 1 - value))
