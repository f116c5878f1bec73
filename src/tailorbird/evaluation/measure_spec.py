"""Measurement settings that all metric families share, and the intervals they report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tailorbird.domain.evidence import ItemResult, Metric
from tailorbird.domain.objective import AnswerFormat, TaskKind
from tailorbird.stats.intervals import Statistic, bootstrap_bca, clustered_wilson, items_worth, mean_interval, observed, score_interval


@dataclass(frozen=True)
class MeasureSpec:
    """What to measure by.

    ``confidence`` is two-sided; ``seed`` fixes the bootstrap; ``price_per_hour`` is what the machine costs while it works; with ``many`` an
    item may bear several labels. ``refer_below`` is the probability below which an item is referred to a person (None: all are answered).
    ``form`` is what a generated answer must look like, ``refer_pattern`` what stands in one that refers to a person. ``token_prices`` are
    those of a token read and a token written where a server is paid for them, in place of the machine. ``order`` are the labels from the
    lowest to the highest, where they are levels.
    """

    task: TaskKind
    labels: tuple[str, ...]
    confidence: float
    seed: int
    price_per_hour: float
    many: bool = False
    refer_below: float | None = None
    form: AnswerFormat | None = None
    refer_pattern: str | None = None
    token_prices: tuple[float, float] | None = None
    order: tuple[str, ...] = ()


def proportion(name: str, outcomes: Sequence[float], groups: Sequence[str], spec: MeasureSpec) -> Metric:
    """The share of ``outcomes`` above zero with Wilson's interval, clustered where groups repeat.

    ``hits`` is given only where no group repeats: an interval recomputed from bare counts would forget the clusters.
    """
    return share(name, [outcome > 0 for outcome in outcomes], groups, spec.confidence)


def share(name: str, outcomes: Sequence[bool], groups: Sequence[str], confidence: float) -> Metric:
    """The share of true ``outcomes``, each of the group at its place; as ``proportion``."""
    low, high = clustered_wilson(outcomes, groups, confidence)
    hits, clustered = sum(outcomes), len(set(groups)) < len(groups)
    return Metric(
        name=name,
        value=hits / len(outcomes),
        low=low,
        high=high,
        confidence=confidence,
        n=len(outcomes),
        method="wilson-clustered" if clustered else "wilson",
        hits=None if clustered else hits,
    )


def average(name: str, values: Sequence[float], groups: Sequence[str], spec: MeasureSpec) -> Metric:
    """The mean of ``values`` with a seeded BCa bootstrap interval over ``groups``."""
    array = np.asarray(values, dtype=float)
    return bootstrapped(name, lambda weights_BN: (weights_BN * array).sum(axis=1) / weights_BN.sum(axis=1), groups, spec)


def bootstrapped(name: str, statistic: Statistic, groups: Sequence[str], spec: MeasureSpec) -> Metric:
    """``statistic`` of item weights, with a seeded BCa bootstrap interval over ``groups`` that always holds its value."""
    value = observed(statistic, len(groups))
    low, high = bootstrap_bca(statistic, groups, spec.confidence, spec.seed)
    return Metric(
        name=name,
        value=value,
        low=min(low, value),
        high=max(high, value),
        confidence=spec.confidence,
        n=len(groups),
        method="bootstrap-bca",
    )


@dataclass(frozen=True)
class Worth:
    """How many independent items outcomes are worth: as they are (``size``), and were they all alike (``alike``)."""

    size: float
    alike: float

    @classmethod
    def of(cls, outcomes: Sequence[bool], groups: Sequence[str]) -> Worth:
        """Of outcomes, each of the group at its place. Raises InvalidInput on none."""
        return cls(items_worth(outcomes, groups), items_worth([True] * len(groups), groups))


def no_narrower(metric: Metric, share: float, worth: Worth, read: Callable[[float], float] = float) -> Metric:
    """``metric`` with an interval no narrower than Wilson's of a ``share`` of the items that it is worth; ``read`` makes the metric of a
    share.

    A bootstrap sees only what was drawn: three items of a label that are all right vary in no draw, as if the label were never missed. And
    one slip among near-copies tells that they are not quite alike, so that they are worth more than where all are right: whatever they are
    worth, the interval reaches down to where all right would, and up to where all wrong would, so that no error proves more.
    """
    low, high = score_interval(share, max(1.0, worth.size), metric.confidence)
    low = min(low, score_interval(1.0, worth.alike, metric.confidence)[0])
    high = max(high, score_interval(0.0, worth.alike, metric.confidence)[1])
    ends = {"low": min(metric.low, read(low)), "high": max(metric.high, read(high))}
    return metric.model_copy(update=ends | ({"method": "wilson"} if metric.low == metric.high else {}))


def worth_of_labels(items: Sequence[ItemResult], hits_of: Callable[[ItemResult], Iterable[tuple[str, bool]]]) -> Worth:
    """The items that a mean over labels is worth: the mean of K independent proportions of n_k items has variance Σ p (1 − p) / n_k / K²,
    that of K² / Σ (1 / n_k) items of one proportion; and no more than all items are. ``hits_of`` gives the labels that an item bears, and
    whether it was given them.
    """
    found: dict[str, tuple[list[bool], list[str]]] = {}
    for item in items:
        for label, hit in hits_of(item):
            hits, groups = found.setdefault(label, ([], []))
            hits.append(hit)
            groups.append(item.group)
    if not found:
        return Worth(1.0, 1.0)
    whole = Worth.of([item.correct for item in items], [item.group for item in items])
    each = [Worth.of(*told) for told in found.values()]
    size, alike = (len(each) ** 2 / sum(1 / n for n in sizes) for sizes in ([one.size for one in each], [one.alike for one in each]))
    return Worth(min(whole.size, size), min(whole.alike, alike))


def share_like(name: str, values: Sequence[float], groups: Sequence[str], spec: MeasureSpec) -> Metric:
    """The mean of ``values`` in [0, 1], with Wilson's interval at the hits that they are worth."""
    low, high = mean_interval(values, groups, spec.confidence)
    return Metric(
        name=name,
        value=float(np.mean(values)),
        low=low,
        high=high,
        confidence=spec.confidence,
        n=len(values),
        method="wilson-mean",
    )
