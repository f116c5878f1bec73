"""Measurement settings that all metric families share, and the intervals they report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tailorbird.domain.evidence import ItemResult, Metric
from tailorbird.domain.objective import AnswerFormat, TaskKind
from tailorbird.stats.intervals import Floats, bootstrap_bca, clustered_wilson, mean_interval, score_interval


@dataclass(frozen=True)
class MeasureSpec:
    """What to measure by.

    ``confidence`` is two-sided; ``seed`` fixes the bootstrap; ``price_per_hour`` is what the machine costs while it works; with ``many`` an
    item may bear several labels. ``refer_below`` is the probability below which an item is referred to a person (None: all are answered).
    ``form`` is what a generated answer must look like, ``refer_pattern`` what stands in one that refers to a person. ``token_prices`` are
    those of a token read and a token written where a server is paid for them, in place of the machine.
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


def proportion(name: str, items: Sequence[ItemResult], outcomes: Sequence[bool], spec: MeasureSpec) -> Metric:
    """The share of true ``outcomes`` (one per item) with Wilson's interval, clustered where groups repeat.

    ``hits`` is given only where no group repeats: an interval recomputed from bare counts would forget the clusters.
    """
    return share(name, outcomes, [item.group for item in items], spec.confidence)


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
    return bootstrapped(name, lambda weights: float(weights @ array / weights.sum()), groups, spec)


def bootstrapped(name: str, statistic: Callable[[Floats], float], groups: Sequence[str], spec: MeasureSpec) -> Metric:
    """``statistic`` of item weights, with a seeded BCa bootstrap interval over ``groups`` that always holds its value."""
    value = statistic(np.ones(len(groups)))
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


def no_narrower(metric: Metric, share: float, size: float, read: Callable[[float], float] = float) -> Metric:
    """``metric`` with an interval no narrower than that of a ``share`` of ``size`` items (Wilson's); ``read`` makes the metric of a share.

    A bootstrap sees only what was drawn: three items of a label that are all right vary in no draw, as if the label were never missed.
    """
    low, high = score_interval(share, max(1.0, size), metric.confidence)
    ends = {"low": min(metric.low, read(low)), "high": max(metric.high, read(high))}
    return metric.model_copy(update=ends | ({"method": "wilson"} if metric.low == metric.high else {}))


def worth_of_labels(items: Sequence[ItemResult], hits_of: Callable[[ItemResult], Iterable[tuple[str, bool]]]) -> float:
    """The items that a mean over labels is worth: the mean of K independent proportions with n_k items has variance Σ p (1 − p) / n_k / K²,
    that of K² / Σ (1 / n_k) items of one proportion. ``hits_of`` gives the labels that an item bears, and whether it was given them.

    Of a label whose items all agree each group counts as one: nothing tells that those of a group would differ.
    """
    found: dict[str, list[tuple[str, bool]]] = {}
    for item in items:
        for label, hit in hits_of(item):
            found.setdefault(label, []).append((item.group, hit))
    sizes = [independent(*zip(*told, strict=True)) for told in found.values()]
    return len(sizes) ** 2 / sum(1 / size for size in sizes) if sizes else 1.0


def independent(groups: Sequence[str], outcomes: Sequence[bool]) -> int:
    """How many items count: all where outcomes differ, since draws of groups tell how alike those of one group are; else the groups."""
    return len(groups) if len(set(outcomes)) > 1 else len(set(groups))


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
