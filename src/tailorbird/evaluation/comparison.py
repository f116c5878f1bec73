"""Comparison of two candidates in one metric, paired on the same items, and the drop of one on shifted data.

Where items have scores, their differences get a paired interval (``paired_interval``; ``student_interval`` where scores have no upper end).
A metric of all items together is resampled: a BCa bootstrap of the difference over groups. Draws on which either side is undefined are left
out; where more than ``MOST_UNDEFINED`` of them are, nothing is proven, and the comparison says why. No interval is narrower than that of
two candidates which never differ (``never_differing``), so that what was not seen to differ is not taken for what cannot.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.evidence import Comparison, ItemResult, Metric, Standing
from tailorbird.domain.value import Digest
from tailorbird.evaluation.metrics import (
    CATALOGUE,
    AnswerKinds,
    MetricReading,
    MetricSpec,
    Pairing,
    base_of,
    corpus_metric_of,
    label_of,
    labels_in,
    lower_is_better,
)
from tailorbird.stats.intervals import Interval, observed, resample, student_interval
from tailorbird.stats.paired_tests import items_needed_for_difference, mcnemar_exact, never_differing, paired_interval
from tailorbird.text.label_rules import join, split

#: The largest share of resamples that may be undefined.
MOST_UNDEFINED = 0.05


@dataclass(frozen=True)
class ComparisonRule:
    """What is compared, how large a difference matters (in the metric's unit), and how sure one must be (two-sided).

    ``seed`` fixes the bootstrap. ``many``: targets and predictions are sets of labels. ``refer_below`` are the probabilities below which
    the upper's and the lower's answers are referred to a person. ``labels`` are those that are compared (empty: all): of sets the others
    are taken out, and items whose one label is another are left out.
    """

    metric: str = "accuracy"
    margin: float = 0.02
    confidence: float = 0.90
    seed: int = 20
    many: bool = False
    refer_below: tuple[float | None, float | None] = (None, None)
    labels: tuple[str, ...] = ()

    @property
    def readings(self) -> tuple[MetricReading, MetricReading]:
        """How the items of the upper and of the lower are read."""
        upper, lower = self.refer_below
        return MetricReading(self.many, upper), MetricReading(self.many, lower)

    @property
    def measure(self) -> MetricSpec:
        """Raises InvalidInput for what two candidates cannot be compared in."""
        measure = CATALOGUE.get(base_of(self.metric))
        if measure is None or not measure.compared or (measure.answers == (AnswerKinds.LABELS,) and not self.many):
            raise InvalidInput(
                f"{self.metric} is not measured on items, so two candidates have no paired difference in it",
                f"compare by one of: {', '.join(sorted(name for name, each in CATALOGUE.items() if each.compared))}",
            )
        return measure


Pairs = list[tuple[ItemResult, ItemResult]]


@dataclass(frozen=True)
class _Difference:
    """``changes`` says how each item differs, ``smallest`` the half width where none does. ``open_because`` is why nothing is proven."""

    value: float
    interval: Interval
    changes: Sequence[float]
    smallest: float | None
    open_because: str = ""


def compare(
    upper: Digest, lower: Digest, upper_items: Sequence[ItemResult], lower_items: Sequence[ItemResult], rule: ComparisonRule
) -> Comparison:
    """``upper`` minus ``lower`` in the metric's own unit, paired by item, clustered by group.

    Better means better for whoever uses it: where less of the metric is better, a negative difference is. Better = the interval lies
    beyond the margin on that side; tie = it lies within ± the margin; worse = beyond it on the other; otherwise not proven, with the items
    that would settle it. What cannot be compared (a score that some item lacks, a metric that is undefined here) is not proven either, and
    the comparison's ``reason`` says why. Raises InvalidInput when the items are not the same, or when no two candidates can be compared in
    the metric.
    """
    measure, pairs = rule.measure, _of_labels(_paired(upper_items, lower_items), rule)
    found = _difference(pairs, rule, measure)
    less = lower_is_better(rule.metric)
    gains = [-change if less else change for change in found.changes]
    wins, losses = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
    standing = Standing.NOT_PROVEN if found.open_because else _standing(found.interval, rule.margin, less)
    still_open = (
        standing is Standing.NOT_PROVEN and not found.open_because and not (found.interval[0] > 0 if less else found.interval[1] < 0)
    )
    return Comparison(
        upper=upper,
        lower=lower,
        metric=rule.metric,
        n=len(found.changes) or len(pairs),
        difference=found.value,
        low=found.interval[0],
        high=found.interval[1],
        confidence=rule.confidence,
        wins=wins,
        losses=losses,
        p_value=mcnemar_exact(wins, losses),
        margin=rule.margin,
        standing=standing,
        items_needed=items_needed_for_difference(found.value, found.interval, len(found.changes), rule.margin) if still_open else None,
        less_is_better=less,
        smallest_margin=found.smallest,
        reason=found.open_because,
        labels=rule.labels,
    )


def differing_items(upper_items: Sequence[ItemResult], lower_items: Sequence[ItemResult], rule: ComparisonRule) -> frozenset[Digest]:
    """The items on which the two differ in the metric; in a metric of all items together, those that only one of them got right. None
    where an item has no score. Raises as ``compare``."""
    pairs = _paired(upper_items, lower_items)
    if rule.measure.pairing is Pairing.WHOLE:
        return frozenset(one.item for one, other in pairs if _right(one, rule) != _right(other, rule))
    scored = ((one.item, *scores) for one, other in pairs if None not in (scores := _scores(one, other, rule)))
    return frozenset(item for item, mine, theirs in scored if mine != theirs)


def _difference(pairs: Pairs, rule: ComparisonRule, measure: MetricSpec) -> _Difference:
    if measure.pairing is Pairing.WHOLE:
        return _of_whole(pairs, rule, measure)
    kept = [(one, _scores(one, other, rule)) for one, other in pairs if _counts(one, other, rule)]
    missing = [sum(scores[side] is None for _, scores in kept) for side in (0, 1)]
    if not kept:
        unlabelled = "no item bears the label" if label_of(rule.metric) else "no item bears a label that is compared"
        return _unknown(measure, unlabelled if label_of(rule.metric) or rule.labels else "no item has a score")
    if any(missing):
        side, count = ("upper", missing[0]) if missing[0] else ("lower", missing[1])
        return _unknown(measure, f"{rule.metric} is missing on {count:,} of {len(kept):,} items of the {side} one")
    changes = [float(mine) - float(theirs) for _, (mine, theirs) in kept if mine is not None and theirs is not None]
    groups = [one.group for one, _ in kept]
    value = math.fsum(changes) / len(changes)
    if (bound := measure.bound) is not None:
        low, high = (bound * end for end in paired_interval([change / bound for change in changes], groups, rule.confidence))
    else:
        low, high = student_interval(changes, groups, rule.confidence)
    smallest = measure.span * _never_differing(len(set(groups)), groups, rule.confidence)
    return _Difference(value, _widened(value, (low, high), smallest, measure), changes, smallest)


def _of_whole(pairs: Pairs, rule: ComparisonRule, measure: MetricSpec) -> _Difference:
    if not pairs:
        return _unknown(measure, "no item bears a label that is compared")
    sides = [[pair[side] for pair in pairs] for side in (0, 1)]
    ours, theirs = (corpus_metric_of(rule.metric, items, reading) for items, reading in zip(sides, rule.readings, strict=True))
    for name, whole in (("upper", ours), ("lower", theirs)):
        if whole.undefined:
            return _unknown(measure, f"{rule.metric} is undefined for the {name} one: {whole.undefined}")
    groups = [one.group for one, _ in pairs]
    value = observed(ours.value, len(pairs)) - observed(theirs.value, len(pairs))
    drawn = resample(lambda weights_BN: ours.value(weights_BN) - theirs.value(weights_BN), groups, rule.confidence, rule.seed)
    smallest = measure.span * _never_differing(min(ours.size, theirs.size), groups, rule.confidence)
    interval = _widened(value, (drawn.low, drawn.high), smallest, measure)
    changes = [float(_right(one, rule)) - float(_right(other, rule)) for one, other in pairs]
    if drawn.undefined <= MOST_UNDEFINED:
        return _Difference(value, interval, changes, smallest)
    why = f"{rule.metric} is undefined on {drawn.undefined:.0%} of the resamples (at most {MOST_UNDEFINED:.0%}): it rests on too few items"
    return _Difference(value, interval, changes, smallest, why)


def _never_differing(size: float, groups: Sequence[str], confidence: float) -> float:
    count = len(set(groups))
    return never_differing(size, confidence, count if count < len(groups) else None)


def _widened(value: float, interval: Interval, smallest: float, measure: MetricSpec) -> Interval:
    """``interval`` with ``value`` in it, and no narrower than that of two that never differ."""
    low, high = min(interval[0], value - smallest), max(interval[1], value + smallest)
    return max(-measure.highest, low), min(measure.highest, high)


def _unknown(measure: MetricSpec, why: str) -> _Difference:
    return _Difference(0.0, (-measure.highest, measure.highest), (), None, why)


def _counts(one: ItemResult, other: ItemResult, rule: ComparisonRule) -> bool:
    """Whether an item bears on the metric: it bears the label; something is relevant to the query; a person should take over."""
    label = label_of(rule.metric)
    if label is not None:
        return label in labels_in(one.target, rule.readings[0])
    return not rule.measure.sparse or rule.metric in one.scores or rule.metric in other.scores


def _scores(one: ItemResult, other: ItemResult, rule: ComparisonRule) -> tuple[float | None, float | None]:
    upper, lower = rule.readings
    return _score(one, rule.metric, upper), _score(other, rule.metric, lower)


def _score(item: ItemResult, metric: str, reading: MetricReading) -> float | None:
    """What one item scores; None where it has no such score."""
    if (label := label_of(metric)) is not None:
        return float(label in labels_in(item.prediction, reading))
    if metric == "coverage" and metric not in item.scores:
        if reading.refer_below is None:
            return None
        return float(item.confidence is not None and item.confidence >= reading.refer_below)
    return CATALOGUE[metric].of_item(item)


def _right(item: ItemResult, rule: ComparisonRule) -> bool:
    """Whether an item came out right; where the metric is of a label, in that label."""
    label, reading = label_of(rule.metric), rule.readings[0]
    if label is None:
        return item.correct
    return (label in labels_in(item.target, reading)) == (label in labels_in(item.prediction, reading))


def _paired(upper: Sequence[ItemResult], lower: Sequence[ItemResult]) -> Pairs:
    one, other = {item.item: item for item in upper}, {item.item: item for item in lower}
    if not one or one.keys() != other.keys() or not len(one) == len(upper) == len(lower):
        raise InvalidInput(
            f"the candidates were not measured on the same items ({len(upper)} and {len(lower)} results)",
            "measure both on the same split of the same snapshot",
        )
    return [(one[item], other[item]) for item in sorted(one)]


def _of_labels(pairs: Pairs, rule: ComparisonRule) -> Pairs:
    """What the pairs say of the labels that are compared."""
    if not rule.labels:
        return pairs
    if not rule.many:
        return [pair for pair in pairs if pair[0].target in rule.labels]
    kept = frozenset(rule.labels)

    def within(item: ItemResult) -> ItemResult:
        target, prediction = (join(kept.intersection(split(text))) for text in (item.target, item.prediction))
        return item.model_copy(update={"target": target, "prediction": prediction, "correct": target == prediction})

    return [(within(one), within(other)) for one, other in pairs]


def _standing(interval: Interval, margin: float, less_is_better: bool) -> Standing:
    low, high = (-interval[1], -interval[0]) if less_is_better else interval
    if low > margin:
        return Standing.BETTER
    if high < -margin:
        return Standing.WORSE
    return Standing.TIE if -margin <= low and high <= margin else Standing.NOT_PROVEN


def shift_drop(usual: Metric, shifted: Metric) -> Metric:
    """Drop from ``usual`` to ``shifted``, in the metric's unit; below 0 where it is better.

    The items are other ones, so nothing is paired. The interval is put together from the two intervals as Newcombe's for two proportions is
    (MOVER: Zou and Donner 2008, Statistics in Medicine 27:1693), whatever method gave them; it is cautious where groups have items on both
    sides.
    """
    worse, better = (usual, shifted) if not lower_is_better(usual.name) else (shifted, usual)
    value = worse.value - better.value
    down = math.hypot(worse.value - worse.low, better.high - better.value)
    up = math.hypot(worse.high - worse.value, better.value - better.low)
    return Metric(name="shift", value=value, low=value - down, high=value + up, confidence=usual.confidence, n=shifted.n, method="mover")
