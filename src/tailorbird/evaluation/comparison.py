"""How a candidate stands to another one, on the same items.

In: two candidates' item results; or two shares, where the items differ. Out: a comparison with its standing. Must not know: rungs, costs,
what follows from a standing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.evidence import Comparison, ItemResult, Standing
from tailorbird.domain.value import Digest
from tailorbird.evaluation import multi_label
from tailorbird.evaluation.classification import balanced_accuracy, macro_f1, over_confusion
from tailorbird.foundations.overlap import token_f1
from tailorbird.foundations.statistics import (
    Floats,
    Interval,
    bootstrap_bca,
    items_needed_for_difference,
    mcnemar_exact,
    paired_interval,
    unpaired_interval,
)

#: What one item scores (0 to 1), by the metric that averages it, where it is not among the item's own ``scores``.
ITEM_SCORES: dict[str, Callable[[ItemResult], float]] = {
    "accuracy": lambda item: float(item.correct),
    "exact_match": lambda item: float(item.correct),
    "token_f1": lambda item: token_f1(item.prediction, item.target),
}

#: A metric of all items together, as a function of item weights.
Whole = Callable[[Sequence[ItemResult]], Callable[[Floats], float]]
#: Such metrics where an item has one label, and where it has any number.
WHOLES: dict[str, Whole] = {
    "macro_f1": lambda items: over_confusion(items, macro_f1),
    "balanced_accuracy": lambda items: over_confusion(items, balanced_accuracy),
}
WHOLES_OF_SETS: dict[str, Whole] = {
    "micro_f1": lambda items: multi_label.over_sets(items, multi_label.micro_f1),
    "macro_f1": lambda items: multi_label.over_sets(items, multi_label.macro_f1),
}


@dataclass(frozen=True)
class ComparisonRule:
    """What is compared, how large a difference matters, and how sure one must be (two-sided). ``seed`` fixes the bootstrap. ``many``:
    targets and predictions are sets of labels."""

    metric: str = "accuracy"
    margin: float = 0.02
    confidence: float = 0.90
    seed: int = 20
    many: bool = False

    @property
    def wholes(self) -> dict[str, Whole]:
        """The metrics of all items together that there are."""
        return WHOLES_OF_SETS if self.many else WHOLES


@dataclass(frozen=True)
class UnpairedComparison:
    """A difference of two shares that were not measured on the same items."""

    difference: float
    low: float
    high: float
    standing: Standing
    items_needed: int | None


def compare(
    upper: Digest, lower: Digest, upper_items: Sequence[ItemResult], lower_items: Sequence[ItemResult], rule: ComparisonRule
) -> Comparison:
    """``upper`` minus ``lower``, paired by item, clustered by group.

    Better = the interval lies above the margin; tie = it lies within ± the margin; worse = below; otherwise not proven, with the items
    that would settle it. Means over items get ``paired_interval``; metrics of a whole (macro-F1 and the like) the BCa bootstrap of their
    paired difference, and wins and losses by which items came out right. Raises InvalidInput when the items are not the same, or when the
    metric can be compared in neither way.
    """
    pairs = _paired(upper_items, lower_items)
    mean, interval, differences = _difference(pairs, rule)
    wins, losses = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    standing = _standing(interval, rule.margin)
    return Comparison(
        upper=upper,
        lower=lower,
        metric=rule.metric,
        n=len(pairs),
        difference=mean,
        low=interval[0],
        high=interval[1],
        confidence=rule.confidence,
        wins=wins,
        losses=losses,
        p_value=mcnemar_exact(wins, losses),
        margin=rule.margin,
        standing=standing,
        items_needed=items_needed_for_difference(mean, interval, len(pairs), rule.margin) if standing is Standing.NOT_PROVEN else None,
    )


def compare_shares(upper: tuple[int, int], lower: tuple[int, int], rule: ComparisonRule) -> UnpairedComparison:
    """``upper`` minus ``lower``, each (hits, items), where the items are not the same or not known. Raises InvalidInput on impossible
    counts."""
    interval = unpaired_interval(upper, lower, rule.confidence)
    difference, standing = upper[0] / upper[1] - lower[0] / lower[1], _standing(interval, rule.margin)
    fewest = min(upper[1], lower[1])
    needed = items_needed_for_difference(difference, interval, fewest, rule.margin) if standing is Standing.NOT_PROVEN else None
    return UnpairedComparison(difference, *interval, standing, needed)


Pairs = list[tuple[ItemResult, ItemResult]]


def _difference(pairs: Pairs, rule: ComparisonRule) -> tuple[float, Interval, list[float]]:
    """The difference, its interval, and how each item differs."""
    groups = [one.group for one, _ in pairs]
    if rule.metric in rule.wholes:
        whole = rule.wholes[rule.metric]
        ours, theirs = whole([one for one, _ in pairs]), whole([other for _, other in pairs])
        interval = bootstrap_bca(lambda weights: ours(weights) - theirs(weights), groups, rule.confidence, rule.seed)
        alone = np.ones(len(pairs))
        return ours(alone) - theirs(alone), interval, [float(one.correct) - float(other.correct) for one, other in pairs]
    score = _score_of(rule, pairs)
    differences = [score(one) - score(other) for one, other in pairs]
    return sum(differences) / len(differences), paired_interval(differences, groups, rule.confidence), differences


def _paired(upper: Sequence[ItemResult], lower: Sequence[ItemResult]) -> Pairs:
    one, other = {item.item: item for item in upper}, {item.item: item for item in lower}
    if not one or one.keys() != other.keys() or not len(one) == len(upper) == len(lower):
        raise InvalidInput(
            f"the candidates were not measured on the same items ({len(upper)} and {len(lower)} results)",
            "measure both on the same split of the same snapshot",
            code="items_differ",
        )
    return [(one[item], other[item]) for item in sorted(one)]


def _score_of(rule: ComparisonRule, pairs: Pairs) -> Callable[[ItemResult], float]:
    metric = rule.metric
    if metric in ITEM_SCORES:
        return ITEM_SCORES[metric]
    if all(metric in one.scores and metric in other.scores for one, other in pairs):
        return lambda item: item.scores[metric]
    known = sorted({*ITEM_SCORES, *rule.wholes, *pairs[0][0].scores})
    raise InvalidInput(
        f"{metric} is not measured item by item, so it has no paired difference",
        f"compare by one of: {', '.join(known)}",
        code="metric_unpaired",
    )


def _standing(interval: Interval, margin: float) -> Standing:
    low, high = interval
    if low > margin:
        return Standing.BETTER
    if high < -margin:
        return Standing.WORSE
    return Standing.TIE if -margin <= low and high <= margin else Standing.NOT_PROVEN
