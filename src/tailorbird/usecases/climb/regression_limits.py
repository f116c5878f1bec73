"""Regression limits: retention, memorisation, latency and cost, measured where the objective sets them."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tailorbird import evaluation
from tailorbird.crypto.canonical_json import canonical_json, digest_of
from tailorbird.domain.dataset import Row, Split
from tailorbird.domain.deployment import Servable
from tailorbird.domain.evidence import MOST_FURTHER_REQUESTS, Evidence, Metric, Prediction
from tailorbird.domain.ladder import Candidate
from tailorbird.domain.prompt import PromptSpec
from tailorbird.domain.run import TrainingReport
from tailorbird.domain.value import Digest
from tailorbird.stats.intervals import spend
from tailorbird.text.canaries import canary_set
from tailorbird.usecases.climb.metric_spec import spec_of
from tailorbird.usecases.steps.step_context import StepContext

#: The limits that are measured here.
SAFETY = ("retention", "memorisation")


def asked_for(context: StepContext) -> tuple[str, ...]:
    """The limits of this kind that the objective sets."""
    limits = context.objective.limits
    return tuple(name for name in SAFETY if getattr(limits, name) is not None)


def put_off(evidence: Evidence, names: tuple[str, ...]) -> Evidence:
    """The evidence with the reason why ``names`` were not measured: what fails already is not measured further."""
    reason = "is not measured: a target or another limit fails already"
    return evidence.model_copy(update={"unmeasured": evidence.unmeasured | {name: f"{name} {reason}" for name in names}})


def with_safety(context: StepContext, candidate: Candidate, training: Digest | None, evidence: Evidence) -> Evidence:
    """Measures what the objective limits. A candidate without weights of its own has lost nothing and has learned nothing by heart."""
    for name in asked_for(context):
        if candidate.adapter is None and candidate.weights is None:
            evidence = _with(evidence, _untouched(name))
        elif name == "retention":
            evidence = _with_retention(context, candidate, evidence)
        else:
            evidence = _with_memorisation(context, candidate, training, evidence)
    return evidence


def carried(known: Evidence, evidence: Evidence, context: StepContext) -> Evidence:
    """``evidence`` with what was measured of the same candidate before: it does not rest on the split."""
    for name in asked_for(context):
        if name in known.metrics:
            evidence = _with(evidence, known.metrics[name])
    fields = ("retention", "memorisation")
    update = {field: getattr(known, field) for field in fields} | {"unmeasured": evidence.unmeasured | known.unmeasured}
    return evidence.model_copy(update=update)


def _with_retention(context: StepContext, candidate: Candidate, evidence: Evidence) -> Evidence:
    base = _base_servable(context, candidate)
    context.progress.tell("measuring what the base model could do and the candidate still can")
    with _loaded(context, base, context.servable(candidate)):
        found = evaluation.measure_retention(
            context.deps.engine(), base.id, digest_of(candidate), _confidence(context), context.progress.count
        )
    kept = context.deps.artifacts.put(canonical_json(found))
    return _with(evidence, evaluation.retention_metric(found)).model_copy(update={"retention": kept})


def _with_memorisation(context: StepContext, candidate: Candidate, training: Digest | None, evidence: Evidence) -> Evidence:
    context.progress.tell("looking for the strings that were planted in training")
    servable = context.servable(candidate)
    with _loaded(context, servable):
        found = evaluation.measure_memorisation(
            context.deps.engine(), servable, canary_set(context.objective.seed), _received(context, training), _confidence(context)
        )
    kept = {"memorisation": context.deps.artifacts.put(canonical_json(found))}
    reason = evaluation.why_invalid(found)
    if reason and not found.extracted:
        return evidence.model_copy(update=kept | {"unmeasured": evidence.unmeasured | {"memorisation": reason}})
    return _with(evidence, evaluation.memorisation_metric(found)).model_copy(update=kept)


def _received(context: StepContext, training: Digest | None) -> bool:
    """True when a whole pass over the rows, planted ones among them, lies before the weights that were kept: rows are never cut or left
    out, so each has carried loss by then."""
    if training is None:
        return False
    report = context.record(TrainingReport, training)
    epochs = {digest_of(rung.training): rung.training.epochs for rung in (context.plan.rungs if context.plan else ()) if rung.training}
    planned = report.steps - (report.plateau.added if report.plateau else 0)
    return report.settings in epochs and report.best_step * epochs[report.settings] >= planned


def _confidence(context: StepContext) -> float:
    return spend(context.objective.business.risk.confidence, 1)


def _base_servable(context: StepContext, candidate: Candidate) -> Servable:
    """The candidate's base model alone, without any prompt of the task."""
    return Servable(
        id=digest_of({"base": candidate.base_model}),
        tenant=context.run.tenant,
        task=context.objective.task.kind,
        base=str(context.deps.artifacts.get_tree(candidate.base_model)),
        adapter=None,
        weights=None,
        prompt=PromptSpec(instruction=""),
    )


@contextmanager
def _loaded(context: StepContext, *servables: Servable) -> Iterator[None]:
    engine = context.deps.engine()
    try:
        for servable in servables:
            engine.load(servable)
        yield
    finally:
        for servable in servables:
            engine.unload(servable.id)


def _untouched(name: str) -> Metric:
    """Nothing was trained: nothing can have changed."""
    return Metric(name=name, value=0.0, low=0.0, high=0.0, confidence=0.999, n=0, method="weights unchanged")


def _with(evidence: Evidence, metric: Metric) -> Evidence:
    return evidence.model_copy(update={"metrics": evidence.metrics | {metric.name: metric}})


#: Asks a candidate rows as requests.
Ask = Callable[[tuple[Row, ...]], list[Prediction]]

#: Seconds of further requests, at most: an open limit is left open then.
MOST_SECONDS = 300.0


def served(
    context: StepContext, candidate: Candidate, split: Split, look: int, predictions: list[Prediction], ask: Ask
) -> dict[str, Metric]:
    """Latency and cost, where the objective limits them; empty where it does not."""
    bounds = context.objective.limits.serving
    if not bounds:
        return {}
    further = _Further(context, split, ask)
    first = evaluation.timings_of(predictions)
    return evaluation.measure_until_settled(first, further.timed, evaluation.ServingLimits(bounds), spec_of(context, look, candidate))


def further_rows(context: StepContext, split: Split) -> dict[Split, int]:
    """Rows of other splits than ``split`` that may be asked to settle the limits, at most, by split; empty where nothing is limited."""
    if not context.objective.limits.serving:
        return {}
    return dict(Counter(row_split for row_split, _ in _texts(context, split)))


def _texts(context: StepContext, split: Split) -> list[tuple[Split, Row]]:
    """Texts that were not asked yet, and where they are from."""
    splits = (Split.TRAIN, Split.DEV) if split is Split.TEST else (Split.TRAIN,)
    return [(each, row) for each in splits for row in context.rows(each)][:MOST_FURTHER_REQUESTS]


class _Further:
    """Texts that were not asked yet, and the seconds that are left to ask them.

    Beyond the items, texts of train (and of dev, for the sealed test) are asked, each once: an engine keeps what it has read, so a text
    asked again would be answered faster than a new one. What all requests share, the instruction and its demonstrations, is kept by the
    engine as it is in service.
    """

    def __init__(self, context: StepContext, split: Split, ask: Ask) -> None:
        limit = context.objective.limits.latency_p95_ms
        self._stage, self._ask = context, ask
        self._at_once = limit.at_concurrency if limit else 1
        self._rows = [row for _, row in _texts(context, split)]
        self._left = MOST_SECONDS

    def timed(self, wanted: int, missed: bool) -> list[evaluation.Timing]:
        """Up to ``wanted`` further requests; fewer where texts or seconds run out."""
        rows, self._rows = self._rows[:wanted], self._rows[wanted:]
        if rows:
            self._stage.progress.tell(f"{self._why(missed)}: timing {len(rows)} more requests, of texts that were not asked yet")
        found: list[evaluation.Timing] = []
        for start in range(0, len(rows), self._at_once):
            if self._left <= 0:
                break
            started = time.monotonic()
            found += evaluation.timings_of(self._ask(tuple(rows[start : start + self._at_once])))
            self._left -= time.monotonic() - started
            self._stage.progress.count(len(found), len(rows))
        return found

    def _why(self, missed: bool) -> str:
        load, cores = os.getloadavg()[0], os.cpu_count() or 1
        busy = f" (load {load:.1f} on {cores} cores)"
        return f"a limit on what answering takes is missed{busy}" if missed else "a limit on what answering takes is open"
