"""Predictions against targets: item results, and metrics with their intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import chain

from tailorbird.domain.dataset import Row
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.evidence import ItemResult, Metric, Prediction
from tailorbird.domain.objective import TaskKind
from tailorbird.evaluation.abstention import abstention_metrics
from tailorbird.evaluation.classification import classification_metrics
from tailorbird.evaluation.generation import generation_metrics, generation_scores
from tailorbird.evaluation.measure_spec import MeasureSpec
from tailorbird.evaluation.multi_label import multi_label_metrics
from tailorbird.evaluation.ranking import ranking_metrics, ranking_scores, relevance_of
from tailorbird.evaluation.serving_limits import serving_metrics
from tailorbird.text.normalisation import normalise

#: What makes metrics out of items, by the kind of task.
Family = Callable[[Sequence[ItemResult], MeasureSpec], Iterator[Metric]]

FAMILIES: dict[TaskKind, Family] = {
    TaskKind.CLASSIFY: classification_metrics,
    TaskKind.GENERATE: generation_metrics,
    TaskKind.RANK: ranking_metrics,
}


def measure(rows: Sequence[Row], predictions: Sequence[Prediction], spec: MeasureSpec) -> tuple[dict[str, Metric], tuple[ItemResult, ...]]:
    """Metrics by name, and item results sorted by item id, so that the order of rows changes nothing.

    Raises InvalidInput when predictions are not exactly one per row, or when there are no rows.
    """
    items = results(rows, predictions, spec)
    return metrics_of(items, spec), items


def metrics_of(items: Sequence[ItemResult], spec: MeasureSpec) -> dict[str, Metric]:
    """All metrics of item results, by name."""
    quality = multi_label_metrics if spec.many else FAMILIES[spec.task]
    return {metric.name: metric for family in (quality, abstention_metrics, serving_metrics) for metric in family(items, spec)}


def some_metrics(items: Sequence[ItemResult], spec: MeasureSpec, names: Collection[str]) -> dict[str, Metric]:
    """Those of ``metrics_of`` that are named, without making more of the others than it takes."""
    quality = multi_label_metrics if spec.many else FAMILIES[spec.task]
    found: dict[str, Metric] = {}
    for metric in chain(abstention_metrics(items, spec), quality(items, spec)):
        if metric.name in names:
            found[metric.name] = metric
        if len(found) == len(set(names)):
            break
    return found


def results(rows: Sequence[Row], predictions: Sequence[Prediction], spec: MeasureSpec) -> tuple[ItemResult, ...]:
    """One result a row, sorted by item id. Raises as ``measure``."""
    by_item = {prediction.item: prediction for prediction in predictions}
    by_row = {row.id: row for row in rows}
    if not rows or by_item.keys() != by_row.keys() or not len(rows) == len(predictions) == len(by_row):
        raise InvalidInput(
            f"{len(predictions)} predictions do not belong one to one to {len(rows)} rows",
            "predict every row exactly once, and at least one",
            code="items_differ",
        )
    return tuple(_item(by_row[item], by_item[item], spec) for item in sorted(by_row))


def _item(row: Row, prediction: Prediction, spec: MeasureSpec) -> ItemResult:
    scores = prediction.log_probabilities
    return ItemResult(
        item=row.id,
        group=row.group,
        target=row.target,
        prediction=prediction.answer,
        correct=_is_correct(row, prediction, spec.task),
        log_loss=-scores[row.target] if scores and row.target in scores else None,
        confidence=min(1.0, math.exp(scores[prediction.answer])) if scores and prediction.answer in scores else None,
        latency_ms=prediction.latency_ms,
        request_ms=prediction.request_ms,
        prompt_tokens=prediction.prompt_tokens,
        completion_tokens=prediction.completion_tokens,
        scores=_scores(row, prediction, spec),
    )


def _is_correct(row: Row, prediction: Prediction, task: TaskKind) -> bool:
    """The right label; the reference's text, after ``normalise``; a relevant document in the first place."""
    if task is TaskKind.CLASSIFY:
        return prediction.answer == row.target
    if task is TaskKind.RANK:
        return bool(prediction.ranking) and relevance_of(row.target).get(prediction.ranking[0], 0) > 0
    return normalise(prediction.answer) == normalise(row.target)


def _scores(row: Row, prediction: Prediction, spec: MeasureSpec) -> dict[str, float]:
    if spec.task is TaskKind.RANK:
        return ranking_scores(prediction.ranking, relevance_of(row.target))
    if spec.task is TaskKind.GENERATE:
        return generation_scores(prediction.answer, row.target, spec.form, prediction.passages)
    told = prediction.log_probabilities
    return {"brier": _brier(told, row.target)} if told and not spec.many else {}


def _brier(log_probabilities: dict[str, float], target: str) -> float:
    """Brier's score of one item (Brier 1950), between 0 and 2: the squared distance of the probabilities from what came true."""
    said = {label: math.exp(nats) for label, nats in log_probabilities.items()}
    return sum((probability - (label == target)) ** 2 for label, probability in said.items()) + (target not in said)
