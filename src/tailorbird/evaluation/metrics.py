"""Metrics of predictions against targets, with intervals; and corpus metrics as functions of item weights for the bootstrap."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from tailorbird.domain.dataset import Row
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.evidence import ItemResult, Metric, Prediction
from tailorbird.domain.objective import TaskKind
from tailorbird.evaluation import multi_label
from tailorbird.evaluation.calibration import LEAST_ITEMS, abstention_metrics, answered, ece_over
from tailorbird.evaluation.classification import classification_metrics, over_labels
from tailorbird.evaluation.generation import generation_metrics, generation_scores, is_same_answer, tool_call_scores
from tailorbird.evaluation.measure_spec import MeasureSpec, worth_of_labels
from tailorbird.evaluation.multi_label import multi_label_metrics
from tailorbird.evaluation.ordinal import ordinal_scores
from tailorbird.evaluation.ranking import ranking_metrics, ranking_scores, relevance_of
from tailorbird.evaluation.serving_limits import serving_metrics
from tailorbird.stats.intervals import Floats, Statistic
from tailorbird.stats.label_sums import balanced_accuracy, macro_f1, micro_f1, shares
from tailorbird.stats.metric_direction import base_of, label_of
from tailorbird.text.label_sets import split


@dataclass(frozen=True)
class CorpusMetric:
    """``value`` is the metric of weighted items, NaN where it is undefined; ``size`` the independent items that it is worth.

    ``undefined`` says why there is no value on the items as they are; empty where there is one.
    """

    value: Statistic
    size: float
    undefined: str = ""


@dataclass(frozen=True)
class MetricReading:
    """How one candidate's items are read: ``many`` labels an item; below which probability its answers are referred to a person."""

    many: bool = False
    refer_below: float | None = None


def corpus_metric_of(metric: str, items: Sequence[ItemResult], reading: MetricReading) -> CorpusMetric:
    """``metric`` of ``items``. Raises KeyError for a metric that is none of all items together."""
    label = label_of(metric)
    if label is not None:
        return _of_label(base_of(metric), label, items, reading)
    return _MAKERS[metric](items, reading)


def labels_in(text: str, reading: MetricReading) -> tuple[str, ...]:
    """The labels of a target or of an answer."""
    return split(text) if reading.many else (text,)


def _groups(items: Sequence[ItemResult]) -> int:
    return len({item.group for item in items})


def _over_labels(items: Sequence[ItemResult], reading: MetricReading) -> float:
    """What a mean over labels is worth where two candidates never differ: near-copies of a row differ as one, if at all."""
    return worth_of_labels(items, lambda item: ((label, True) for label in labels_in(item.target, reading))).alike


def _macro_f1(items: Sequence[ItemResult], reading: MetricReading) -> CorpusMetric:
    value = multi_label.over_sets(items, macro_f1) if reading.many else over_labels(items, macro_f1)
    return CorpusMetric(value, _over_labels(items, reading))


def _balanced(items: Sequence[ItemResult], reading: MetricReading) -> CorpusMetric:
    return CorpusMetric(over_labels(items, balanced_accuracy), _over_labels(items, reading))


def _micro_f1(items: Sequence[ItemResult], _: MetricReading) -> CorpusMetric:
    return CorpusMetric(multi_label.over_sets(items, micro_f1), float(_groups(items)))


def _ece(items: Sequence[ItemResult], _: MetricReading) -> CorpusMetric:
    unsure = sum(item.confidence is None for item in items)
    if unsure:
        return _undefined(f"{unsure:,} of {len(items):,} items have no probability")
    if len(items) < LEAST_ITEMS:
        return _undefined(f"it takes {LEAST_ITEMS} items, and there are {len(items)}")
    return CorpusMetric(ece_over(items), float(_groups(items)))


def _selective_risk(items: Sequence[ItemResult], reading: MetricReading) -> CorpusMetric:
    if reading.refer_below is None:
        return _undefined("no threshold was calibrated below which answers are referred")
    given = answered(items, reading.refer_below)
    if not given:
        return _undefined("no item is answered: all are referred")
    kept = {item.item for item in given}
    wrong = [item.item in kept and not item.correct for item in items]
    return CorpusMetric(_ratio(wrong, [item.item in kept for item in items]), float(_groups(given)))


def _referral_precision(items: Sequence[ItemResult], _: MetricReading) -> CorpusMetric:
    referred = [item for item in items if "referral_precision" in item.scores]
    if not referred:
        return _undefined("no answer refers to a person")
    hits = [item.scores.get("referral_precision", 0.0) > 0 for item in items]
    return CorpusMetric(_ratio(hits, ["referral_precision" in item.scores for item in items]), float(_groups(referred)))


_MAKERS: dict[str, Callable[[Sequence[ItemResult], MetricReading], CorpusMetric]] = {
    "macro_f1": _macro_f1,
    "balanced_accuracy": _balanced,
    "micro_f1": _micro_f1,
    "ece": _ece,
    "selective_risk": _selective_risk,
    "referral_precision": _referral_precision,
}


def _of_label(base: str, label: str, items: Sequence[ItemResult], reading: MetricReading) -> CorpusMetric:
    """Precision rests on the items that were given the label, F1 on those and on the ones that bear it."""
    borne = np.array([label in labels_in(item.target, reading) for item in items])
    given = np.array([label in labels_in(item.prediction, reading) for item in items])
    hits = borne & given
    among = given if base == "precision" else given | borne
    if not among.any():
        return _undefined("no item was given the label" if base == "precision" else "no item bears the label or was given it")
    size = float(_groups([item for item, counts in zip(items, among, strict=True) if counts]))
    if base == "precision":
        return CorpusMetric(_ratio(hits, given), size)
    twice, both = 2.0 * hits, borne.astype(float) + given.astype(float)
    return CorpusMetric(_ratio(twice, both), size)


def _ratio(hits: Sequence[bool] | Floats, among: Sequence[bool] | Floats) -> Statistic:
    hits_N, among_N = np.array(hits, dtype=float), np.array(among, dtype=float)
    return lambda weights_BN: shares((weights_BN * hits_N).sum(axis=1), (weights_BN * among_N).sum(axis=1))


def _undefined(reason: str) -> CorpusMetric:
    return CorpusMetric(lambda weights_BN: np.full(len(weights_BN), np.nan), 1.0, reason)


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
    items = item_results(rows, predictions, spec)
    return metrics_of(items, spec), items


def metrics_of(items: Sequence[ItemResult], spec: MeasureSpec) -> dict[str, Metric]:
    """All metrics of item results, by name."""
    quality = multi_label_metrics if spec.many else FAMILIES[spec.task]
    return {metric.name: metric for family in (quality, abstention_metrics, serving_metrics) for metric in family(items, spec)}


def named_metrics(items: Sequence[ItemResult], spec: MeasureSpec, names: Collection[str]) -> dict[str, Metric]:
    """Named metrics of ``metrics_of``, without computing the others."""
    quality = multi_label_metrics if spec.many else FAMILIES[spec.task]
    found: dict[str, Metric] = {}
    for metric in chain(abstention_metrics(items, spec), quality(items, spec)):
        if metric.name in names:
            found[metric.name] = metric
        if len(found) == len(set(names)):
            break
    return found


def item_results(rows: Sequence[Row], predictions: Sequence[Prediction], spec: MeasureSpec) -> tuple[ItemResult, ...]:
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
        target=row.answer,
        prediction=prediction.answer,
        correct=_is_correct(row, prediction, spec),
        log_loss=-scores[row.answer] if scores and row.answer in scores else None,
        confidence=min(1.0, math.exp(scores[prediction.answer])) if scores and prediction.answer in scores else None,
        latency_ms=prediction.latency_ms,
        request_ms=prediction.request_ms,
        prompt_tokens=prediction.prompt_tokens,
        completion_tokens=prediction.completion_tokens,
        scores=_scores(row, prediction, spec),
    )


def _is_correct(row: Row, prediction: Prediction, spec: MeasureSpec) -> bool:
    """The right label; the reference's text, after ``normalise``, its calls, or its JSON; a relevant document in the first place."""
    if spec.task is TaskKind.CLASSIFY:
        return prediction.answer == row.answer
    if spec.task is TaskKind.RANK:
        return bool(prediction.ranking) and relevance_of(row.answer).get(prediction.ranking[0], 0) > 0
    return is_same_answer(prediction.answer, row.answer, spec.form)


def _scores(row: Row, prediction: Prediction, spec: MeasureSpec) -> dict[str, float]:
    if spec.task is TaskKind.RANK:
        return ranking_scores(prediction.ranking, relevance_of(row.answer))
    if spec.task is TaskKind.GENERATE:
        scores = generation_scores(prediction.answer, row.answer, spec, prediction.passages)
        return scores | tool_call_scores(prediction.answer, row.answer, row.text)
    if spec.many:
        return {}
    told = prediction.log_probabilities
    return ordinal_scores(prediction.answer, row.answer, spec.order) | ({"brier": _brier(told, row.answer)} if told else {})


def _brier(log_probabilities: dict[str, float], target: str) -> float:
    """Brier's score of one item (Brier 1950), between 0 and 2: the squared distance of the probabilities from what came true."""
    said = {label: math.exp(nats) for label, nats in log_probabilities.items()}
    return sum((probability - (label == target)) ** 2 for label, probability in said.items()) + (target not in said)
