"""Batch noise: items of dev answered again in another order and batching, by the candidate and by its base.

The sealed test is never asked twice: its order is fixed beforehand, and a second answer would be a second look.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from tailorbird import evaluation
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.dataset import Row, Split
from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.evidence import BatchNoise, BatchShift, Comparison, Evidence, ItemResult
from tailorbird.domain.ladder import Candidate
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Sampling
from tailorbird.usecases.climb.metric_spec import comparison_of, rule_of, spec_of
from tailorbird.usecases.steps.step_context import StepContext

#: Items that are answered again at most: those that are scored, and those that are generated, which take longer.
MOST_SCORED, MOST_GENERATED = 64, 16
#: Items at a time: the first answers were given 32 at a time, or one by one.
_AGAIN, _FIRST = 7, 32


def batch_noise(context: StepContext, dev: Evidence, candidate: Candidate) -> BatchNoise | None:
    """What batching does to the candidate's answers; None for a floor, a ranker and a hosted model, which answer one by one.

    ``dev`` is the evidence of the candidate on dev, whose answers are the first. Measured before the sealed test is looked at.
    """
    if candidate.floor is not None or candidate.hosted is not None or context.objective.task.kind is TaskKind.RANK:
        return None
    rows = asked_again(context)
    if not rows:
        return None
    context.progress.tell(f"answering {len(rows)} dev items again, in another order and batching")
    first = {item.item: item for item in context.items(dev.items)}
    servable = context.servable(candidate)
    again = _answered(context, servable, rows[::-1], _AGAIN)
    return BatchNoise(candidate=_shift(context, dev, [first[row.id] for row in rows], again), base=_of_base(context, dev, servable, rows))


def with_noise(context: StepContext, evidence: Evidence, noise: BatchNoise | None) -> Evidence:
    """``evidence`` with what batching does, and a remark on it."""
    if noise is None:
        return evidence
    return evidence.model_copy(update={"batching": noise, "remarks": (*evidence.remarks, noise_text(noise, comparison_of(context).metric))})


def asked_again(context: StepContext) -> tuple[Row, ...]:
    """Dev rows that are answered again, drawn by the hash of seed and row, in that order."""
    seed, most = context.objective.seed, MOST_SCORED if context.objective.task.kind is TaskKind.CLASSIFY else MOST_GENERATED
    return tuple(sorted(context.rows(Split.DEV), key=lambda row: hashlib.sha256(f"{seed}:again:{row.id}".encode()).digest())[:most])


def noise_text(noise: BatchNoise, metric: str) -> str:
    """A sentence on what batching does."""
    own, base = noise.candidate, noise.base
    beside = f" ({base.flips} of its base's)" if base else ""
    text = f"answered again in another order and batching, {own.flips} of {own.n} dev items got another answer{beside}"
    if (found := own.shifts.get(metric)) is None:
        return text
    return f"{text}; {metric} moved by {found.difference:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def _of_base(context: StepContext, dev: Evidence, servable: Servable, rows: Sequence[Row]) -> BatchShift | None:
    if servable.adapter is None and servable.weights is None:
        return None
    base = servable.model_copy(update={"id": digest_of({"base of": servable.id}), "adapter": None, "weights": None})
    return _shift(context, dev, _answered(context, base, rows, _FIRST), _answered(context, base, rows[::-1], _AGAIN))


def _answered(context: StepContext, servable: Servable, rows: Sequence[Row], at_a_time: int) -> list[ItemResult]:
    """Results in the order of ``asked_again``. The servable has a name of its own: an engine remembers what it has read by name, and would
    answer from its memory."""
    engine = context.deps.engine()
    fresh = servable.model_copy(update={"id": digest_of({"again": servable.id, "at a time": at_a_time})})
    asked = evaluation.PredictionRequest(
        engine, fresh, tuple(rows), context.progress.count, Sampling(max_tokens=256), timed=0, chunk=at_a_time
    )
    engine.load(fresh)
    try:
        found = evaluation.item_results(tuple(rows), evaluation.engine_predictions(asked), spec_of(context, 1))
    finally:
        engine.unload(fresh.id)
    places = {row.id: place for place, row in enumerate(asked_again(context))}
    return sorted(found, key=lambda item: places[item.item])


def _shift(context: StepContext, dev: Evidence, first: Sequence[ItemResult], again: Sequence[ItemResult]) -> BatchShift:
    flips = sum(one.prediction != other.prediction for one, other in zip(first, again, strict=True))
    return BatchShift(n=len(first), flips=flips, shifts=dict(_compared(context, dev, first, again)))


def _compared(
    context: StepContext, dev: Evidence, first: Sequence[ItemResult], again: Sequence[ItemResult]
) -> list[tuple[str, Comparison]]:
    names = dict.fromkeys((comparison_of(context).metric, *(kpi.metric for kpi in context.objective.kpis)))
    rule = rule_of(context, dev, dev)
    found = []
    for name in names:
        # What is not measured on items has no paired difference.
        with suppress(InvalidInput):
            found.append((name, evaluation.compare(dev.candidate, dev.candidate, again, first, replace(rule, metric=name))))
    return found
