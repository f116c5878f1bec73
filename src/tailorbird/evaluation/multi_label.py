"""Metrics of multi-label classification."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailorbird.domain.evidence import ItemResult, Metric
from tailorbird.evaluation.measure_spec import MeasureSpec, Worth, average, bootstrapped, no_narrower, proportion, worth_of_labels
from tailorbird.stats.intervals import Floats, Statistic, items_worth
from tailorbird.stats.label_sums import LabelSums, macro_f1, micro_f1
from tailorbird.text.label_sets import split


@dataclass(frozen=True)
class _Marks:
    """Which items bear which labels, and which were given them: (items, labels)."""

    borne_NK: NDArray[np.bool_]
    given_NK: NDArray[np.bool_]


def multi_label_metrics(items: Sequence[ItemResult], spec: MeasureSpec) -> Iterator[Metric]:
    """All metrics that are defined on these items."""
    yield proportion("exact_match", items, [item.correct for item in items], spec)
    marks, groups = _marks(items, spec.labels), [item.group for item in items]
    micro, macro = (bootstrapped(name, _over(marks, mean), groups, spec) for name, mean in (("micro_f1", micro_f1), ("macro_f1", macro_f1)))
    distinct = float(len(set(groups)))
    # Micro-F1 is a share of many labels: its interval is Wilson's only where no draw differs.
    yield micro if micro.low < micro.high else no_narrower(micro, micro.value, Worth(distinct, distinct))
    yield no_narrower(macro, macro.value, worth_of_labels(items, _hits))
    for place, label in enumerate(spec.labels):
        yield from _of_label(label, place, marks, items, spec)
    losses = [item.log_loss for item in items if item.log_loss is not None]
    if len(losses) == len(items) > 1:
        yield average("log_loss", losses, groups, spec)


def _hits(item: ItemResult) -> Iterator[tuple[str, bool]]:
    given = frozenset(split(item.prediction))
    return ((label, label in given) for label in split(item.target))


def over_sets(items: Sequence[ItemResult], mean: Callable[[LabelSums], Floats]) -> Statistic:
    """``mean`` of items as a function of their weights, over the labels that they bear or were given."""
    labels = sorted({label for item in items for text in (item.target, item.prediction) for label in split(text)})
    return _over(_marks(items, labels), mean)


def _marks(items: Sequence[ItemResult], labels: Sequence[str]) -> _Marks:
    place = {label: k for k, label in enumerate(labels)}
    borne, given = (np.zeros((len(items), len(labels)), dtype=bool) for _ in range(2))
    for n, item in enumerate(items):
        for marked, text in ((borne, item.target), (given, item.prediction)):
            marked[n, [place[label] for label in split(text) if label in place]] = True
    return _Marks(borne, given)


def _over(marks: _Marks, mean: Callable[[LabelSums], Floats]) -> Statistic:
    """``mean`` as a function of item weights."""
    hits_NK = (marks.borne_NK & marks.given_NK).astype(float)
    given_NK, borne_NK = marks.given_NK.astype(float), marks.borne_NK.astype(float)
    return lambda weights_BN: mean(LabelSums(weights_BN @ borne_NK, weights_BN @ given_NK, weights_BN @ hits_NK))


def _of_label(label: str, place: int, marks: _Marks, items: Sequence[ItemResult], spec: MeasureSpec) -> Iterator[Metric]:
    """Precision rests on the items that were given the label, recall on those that bear it, F1 on all."""
    borne_N, given_N = marks.borne_NK[:, place], marks.given_NK[:, place]
    for name, among_N, hit_N in (("precision", given_N, borne_N), ("recall", borne_N, given_N)):
        among: list[int] = np.flatnonzero(among_N).tolist()
        if among:
            yield proportion(f"{name}[{label}]", [items[n] for n in among], [bool(hit_N[n]) for n in among], spec)
    if (borne_N | given_N).any():
        yield _f1_of_label(label, _Marks(borne_N[:, None], given_N[:, None]), items, spec)


def _f1_of_label(label: str, one: _Marks, items: Sequence[ItemResult], spec: MeasureSpec) -> Metric:
    """F1 is 2 J / (1 + J) of the share J of hits among the items that bear the label or were given it (Jaccard's), and is known no better
    than that share: the other items, however many, say nothing of it."""
    among: list[int] = np.flatnonzero(one.borne_NK[:, 0] | one.given_NK[:, 0]).tolist()
    hits = (one.borne_NK & one.given_NK)[among, 0].tolist()
    metric = bootstrapped(f"f1[{label}]", _over(one, micro_f1), [item.group for item in items], spec)
    groups = [items[n].group for n in among]
    # Were all right, nobody else would have been given the label.
    borne = [items[n].group for n in among if one.borne_NK[n, 0]] or groups
    worth = Worth(items_worth(hits, groups), items_worth([True] * len(borne), borne))
    return no_narrower(metric, sum(hits) / len(among), worth, lambda share: 2 * share / (1 + share))
