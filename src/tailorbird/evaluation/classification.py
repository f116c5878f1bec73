"""Metrics of single-label classification."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tailorbird.domain.evidence import ItemResult, Metric
from tailorbird.evaluation.calibration import calibration_metrics
from tailorbird.evaluation.measure_spec import MeasureSpec, average, bootstrapped, no_narrower, proportion, worth_of_labels
from tailorbird.stats.intervals import Floats


def classification_metrics(items: Sequence[ItemResult], spec: MeasureSpec) -> Iterator[Metric]:
    """All metrics that are defined on these items."""
    yield proportion("accuracy", items, [item.correct for item in items], spec)
    yield from _over_classes(items, spec)
    for label in spec.labels:
        yield from _of_label(label, items, spec)
    losses = [item.log_loss for item in items if item.log_loss is not None]
    if len(losses) == len(items) > 1:
        yield average("log_loss", losses, [item.group for item in items], spec)
    yield from calibration_metrics(items, spec)


def _of_label(label: str, items: Sequence[ItemResult], spec: MeasureSpec) -> Iterator[Metric]:
    """Precision rests on the items that were given the label, recall on those that bear it."""
    given = [item for item in items if item.prediction == label]
    bearing = [item for item in items if item.target == label]
    for name, among in (("precision", given), ("recall", bearing)):
        if among:
            yield proportion(f"{name}[{label}]", among, [item.correct for item in among], spec)


def _over_classes(items: Sequence[ItemResult], spec: MeasureSpec) -> Iterator[Metric]:
    groups, worth = [item.group for item in items], worth_of_labels(items, lambda item: ((item.target, item.correct),))
    for name, mean in (("balanced_accuracy", balanced_accuracy), ("macro_f1", macro_f1)):
        metric = bootstrapped(name, over_confusion(items, mean), groups, spec)
        yield no_narrower(metric, metric.value, worth)


def over_confusion(items: Sequence[ItemResult], mean: Callable[[Floats], float]) -> Callable[[Floats], float]:
    """``mean`` of the confusion matrix as a function of item weights."""
    names = sorted({item.target for item in items} | {item.prediction for item in items})
    place = {name: i for i, name in enumerate(names)}
    cells = np.array([place[item.target] * len(names) + place[item.prediction] for item in items], dtype=np.intp)

    def weighted(weights: Floats) -> float:
        counts = np.bincount(cells, weights=weights, minlength=len(names) ** 2)
        return mean(counts.astype(np.float64).reshape(len(names), len(names)))

    return weighted


def macro_f1(confusion_KK: Floats) -> float:
    """Mean F1 over the labels that some item bears: the same for all candidates; ``confusion_KK[target, answer]`` holds (weighted) counts.

    A wrong answer that nobody bears counts against the label that was missed, as any other wrong answer does."""
    hits_K, borne_K = np.diag(confusion_KK), confusion_KK.sum(axis=1) > 0
    total_K = confusion_KK.sum(axis=0) + confusion_KK.sum(axis=1)
    return float(np.mean(2 * hits_K[borne_K] / total_K[borne_K]))


def balanced_accuracy(confusion_KK: Floats) -> float:
    """Mean recall over the labels that some item bears."""
    support_K = confusion_KK.sum(axis=1)
    borne_K = support_K > 0
    return float(np.mean(np.diag(confusion_KK)[borne_K] / support_K[borne_K]))
