"""Incumbent: the release in production, measured on the candidate's items, and what the sealed test can prove against it."""

from __future__ import annotations

import math
from dataclasses import replace

from tailorbird import evaluation
from tailorbird.crypto.canonical_json import short
from tailorbird.domain.dataset import Split
from tailorbird.domain.errors import Conflict, TailorbirdError
from tailorbird.domain.evidence import Comparison, Evidence, Metric
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.plan import PlannedComparison, PlannedIncumbent
from tailorbird.domain.preflight import PreflightFinding, PreflightSeverity
from tailorbird.domain.prompt import Sampling
from tailorbird.domain.release import Release
from tailorbird.domain.value import Digest
from tailorbird.objective import comparable_items
from tailorbird.ports.engine import LoadRequest
from tailorbird.stats.intervals import spend
from tailorbird.stats.metric_direction import label_of, lower_is_better, measure_of
from tailorbird.stats.paired_tests import disagreeing, items_for_margin
from tailorbird.usecases.anchored_rows import anchored_alias, demand_anchored, looks_taken
from tailorbird.usecases.climb.hosted_engine import engine_for
from tailorbird.usecases.climb.metric_spec import as_lines, comparison_of, groups_of, rule_of, spec_of
from tailorbird.usecases.releases.load_verification import admit
from tailorbird.usecases.steps.step_context import StepContext

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
        items = _items(context, release, evidence.split, look)
    except TailorbirdError as error:
        raise Conflict(
            f"release {short(release.digest)}, which answers now, cannot be measured beside the candidate: {error.message}",
            f"{error.hint}; or take it back: tailorbird rollback {context.objective.name}; then adapt again: it goes on from here",
            code="incumbent_unmeasured",
        ) from error
    theirs = evidence.model_copy(update={"refer_below": release.content.refer_below})
    rule = rule_of(context, evidence, theirs, spend(context.objective.business.risk.confidence, look))
    rule = replace(rule, labels=_common_labels(context, release, rule.metric))
    found = evaluation.compare(evidence.candidate, release.content.candidate, context.items(evidence.items), context.items(items), rule)
    told = evidence.model_copy(update={"incumbent": items, "incumbent_release": release.digest, "against_incumbent": found})
    if found.reason:
        return told.model_copy(update={"unmeasured": evidence.unmeasured | {AGAINST: found.reason}})
    return told.model_copy(update={"metrics": evidence.metrics | {AGAINST: _metric(found)}})


def _common_labels(context: StepContext, release: Release, metric: str) -> tuple[str, ...]:
    """The labels on which the two are compared; empty: all of them.

    Where a label was added since, the incumbent is asked for those that it knows: a gain in the new one must not outweigh a loss in the
    others, and targets say what the new one has to reach. A metric of a label that the incumbent does not know is compared as it is.
    """
    ours, theirs = set(context.manifest.labels), set(release.content.prompt.labels)
    common = ours & theirs
    of_label = label_of(metric)
    return () if not theirs or ours == theirs or (of_label and of_label not in common) else tuple(sorted(common))


def _items(context: StepContext, release: Release, split: Split, look: int) -> Digest:
    """The incumbent's item results, as an artifact."""
    servable = admit(context.deps, LoadRequest(tenant=context.run.tenant, release=release.digest, purpose="production"))
    rows = context.rows(split)
    engine = engine_for(context, servable, split.value, len(rows))
    context.progress.tell(f"measuring release {short(release.digest)}, which answers now, on the same {len(rows)} items")
    engine.load(servable)
    try:
        ask = evaluation.ranked_predictions if context.objective.task.kind is TaskKind.RANK else evaluation.engine_predictions
        predictions = ask(
            evaluation.PredictionRequest(
                engine=engine, servable=servable, rows=rows, progress=context.progress.count, sampling=Sampling(max_tokens=256), timed=0
            )
        )
    finally:
        engine.unload(servable.id)
    return context.deps.artifacts.put(as_lines(evaluation.item_results(rows, predictions, spec_of(context, look))))


def _metric(found: Comparison) -> Metric:
    return Metric(
        name=AGAINST,
        value=found.difference,
        low=found.low,
        high=found.high,
        confidence=found.confidence,
        n=found.n,
        method="paired",
    )


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
    disagreement, assumption = _disagreement(context, compared, known)
    confidence = spend(context.objective.business.risk.confidence, look)
    sizes = groups_of(context, context.manifest)(Split.TEST, label_of(compared.metric))
    n = max(1.0, comparable_items(compared.metric, context.manifest, Split.TEST, sizes))
    shared = len(sizes) if any(size > 1 for size in sizes) else None
    span = measure_of(compared.metric).span
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


def _disagreement(context: StepContext, compared: PlannedComparison, known: Evidence | None) -> tuple[float, str]:
    """The share of items on which two equally good candidates differ, and where that is from."""
    last = known.against_incumbent if known else None
    if last is not None and last.metric == compared.metric and not last.reason:
        rate = (last.wins + last.losses) / last.n
        return rate, f"as the release that answers now and the one before it, which differed on {rate:.0%} of the items"
    errors, of_whom = _errors(context, compared.metric, known)
    return errors, f"{of_whom} errs on {errors:.0%} of the items, and two that are equally good share half of their errors"


def _errors(context: StepContext, metric: str, known: Evidence | None) -> tuple[float, str]:
    for name in (metric, "accuracy", "exact_match") if known else ():
        measured = known.metrics.get(name) if known else None
        if measured is not None and measure_of(name).unit == "share":
            return _share_of_errors(name, measured.value), "the release that answers now"
    target = next((kpi.target for kpi in context.objective.kpis if kpi.metric == metric and measure_of(metric).unit == "share"), None)
    if target is not None:
        return _share_of_errors(metric, target), f"a candidate that just reaches {metric} {target:g}"
    return _UNKNOWN, "a candidate of which nothing is known"


def _share_of_errors(metric: str, value: float) -> float:
    return min(1.0, max(0.01, value if lower_is_better(metric) else 1 - value))
