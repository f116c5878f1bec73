"""Predictions against targets: item results, and metrics with their intervals.

In: rows, predictions. Out: one ``ItemResult`` per row, and metrics by the names that KPIs use. Must not know: targets of KPIs, where
predictions came from. A metric that is undefined on these items (no positives, too few to bound it) is absent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from tailorbird.domain.dataset import Row
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.evidence import ItemResult, Metric, Prediction
from tailorbird.domain.objective import TaskKind
from tailorbird.evaluation.classification import classification_metrics
from tailorbird.evaluation.generation import generation_metrics
from tailorbird.evaluation.multi_label import multi_label_metrics
from tailorbird.evaluation.serving_cost import serving_metrics
from tailorbird.evaluation.spec import MeasureSpec
from tailorbird.foundations.text import normalise

#: What makes metrics out of items, by the kind of task.
Family = Callable[[Sequence[ItemResult], MeasureSpec], Iterator[Metric]]

FAMILIES: dict[TaskKind, Family] = {TaskKind.CLASSIFY: classification_metrics, TaskKind.GENERATE: generation_metrics}


def measure(rows: Sequence[Row], predictions: Sequence[Prediction], spec: MeasureSpec) -> tuple[dict[str, Metric], tuple[ItemResult, ...]]:
    """Metrics by name, and item results sorted by item id, so that the order of rows changes nothing.

    Raises InvalidInput when predictions are not exactly one per row, when there are no rows, or when the task is of a kind without metrics.
    """
    if spec.task not in FAMILIES:
        raise InvalidInput(f"a {spec.task.value} task has no metrics", "measure a classify or generate task", code="task_unsupported")
    items = _items(rows, predictions, spec.task)
    quality = multi_label_metrics if spec.many else FAMILIES[spec.task]
    return {metric.name: metric for family in (quality, serving_metrics) for metric in family(items, spec)}, items


def _items(rows: Sequence[Row], predictions: Sequence[Prediction], task: TaskKind) -> tuple[ItemResult, ...]:
    by_item = {prediction.item: prediction for prediction in predictions}
    by_row = {row.id: row for row in rows}
    if not rows or by_item.keys() != by_row.keys() or not len(rows) == len(predictions) == len(by_row):
        raise InvalidInput(
            f"{len(predictions)} predictions do not belong one to one to {len(rows)} rows",
            "predict every row exactly once, and at least one",
            code="items_differ",
        )
    return tuple(_item(by_row[item], by_item[item], task) for item in sorted(by_row))


def _item(row: Row, prediction: Prediction, task: TaskKind) -> ItemResult:
    scores = prediction.log_probabilities
    exact = prediction.answer == row.target
    return ItemResult(
        item=row.id,
        group=row.group,
        target=row.target,
        prediction=prediction.answer,
        correct=exact if task is TaskKind.CLASSIFY else normalise(prediction.answer) == normalise(row.target),
        log_loss=-scores[row.target] if scores and row.target in scores else None,
        confidence=min(1.0, math.exp(scores[prediction.answer])) if scores and prediction.answer in scores else None,
        latency_ms=prediction.latency_ms,
        request_ms=prediction.request_ms,
        prompt_tokens=prediction.prompt_tokens,
        completion_tokens=prediction.completion_tokens,
    )
