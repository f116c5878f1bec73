"""Metrics of single-label classification."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tailorbird.domain.evidence import ItemResult, Metric
from tailorbird.evaluation.calibration import calibration_metrics
from tailorbird.evaluation.measure_spec import MeasureSpec, average, bootstrapped, no_narrower, proportion, worth_of_labels
from tailorbird.evaluation.ordinal import ordinal_metrics
from tailorbird.stats.intervals import Floats, Statistic
from tailorbird.stats.label_sums import LabelSums, balanced_accuracy, macro_f1, sums_by


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
    yield from ordinal_metrics(items, spec)


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
        metric = bootstrapped(name, over_labels(items, mean), groups, spec)
        yield no_narrower(metric, metric.value, worth)


def over_labels(items: Sequence[ItemResult], mean: Callable[[LabelSums], Floats]) -> Statistic:
    """``mean`` of the labels that items bear and were given, as a function of item weights."""
    names = sorted({item.target for item in items} | {item.prediction for item in items})
    place = {name: i for i, name in enumerate(names)}
    borne_N, given_N = (np.array([place[name] for name in side], dtype=np.intp) for side in zip(*_named(items), strict=True))
    right_N, by_borne, by_given = (borne_N == given_N).astype(float), sums_by(borne_N, len(names)), sums_by(given_N, len(names))
    return lambda weights_BN: mean(LabelSums(by_borne(weights_BN), by_given(weights_BN), by_borne(weights_BN * right_N)))


def _named(items: Sequence[ItemResult]) -> Iterator[tuple[str, str]]:
    return ((item.target, item.prediction) for item in items)
