"""How a candidate stands to another one, on the same items.

In: two candidates' item results. Out: a paired comparison with its standing. Must not know: rungs, costs, what follows from a
standing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.evidence import Comparison, ItemResult, Standing
from tailorbird.domain.value import Digest
from tailorbird.foundations.overlap import token_f1
from tailorbird.foundations.statistics import Interval, items_needed_for_difference, mcnemar_exact, paired_interval

#: What one item scores (0 to 1), by the metric that averages it, where it is not among the item's own ``scores``.
ITEM_SCORES: dict[str, Callable[[ItemResult], float]] = {
    "accuracy": lambda item: float(item.correct),
    "exact_match": lambda item: float(item.correct),
    "token_f1": lambda item: token_f1(item.prediction, item.target),
}


@dataclass(frozen=True)
class ComparisonRule:
    """What is compared, how large a difference matters, and how sure one must be (two-sided)."""

    metric: str = "accuracy"
    margin: float = 0.02
    confidence: float = 0.90


def compare(
    upper: Digest, lower: Digest, upper_items: Sequence[ItemResult], lower_items: Sequence[ItemResult], rule: ComparisonRule
) -> Comparison:
    """``upper`` minus ``lower``, paired by item, clustered by group.

    Better = the interval lies above the margin; tie = it lies within ± the margin; worse = below; otherwise not proven, with the items
    that would settle it. Raises InvalidInput when the items are not the same, or when the metric is not a mean over items.
    """
    pairs = _paired(upper_items, lower_items)
    score = _score_of(rule.metric)
    differences = [score(one) - score(other) for one, other in pairs]
    mean = sum(differences) / len(differences)
    interval = paired_interval(differences, [one.group for one, _ in pairs], rule.confidence)
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


def _paired(upper: Sequence[ItemResult], lower: Sequence[ItemResult]) -> list[tuple[ItemResult, ItemResult]]:
    one, other = {item.item: item for item in upper}, {item.item: item for item in lower}
    if not one or one.keys() != other.keys() or not len(one) == len(upper) == len(lower):
        raise InvalidInput(
            f"the candidates were not measured on the same items ({len(upper)} and {len(lower)} results)",
            "measure both on the same split of the same snapshot",
            code="items_differ",
        )
    return [(one[item], other[item]) for item in sorted(one)]


def _score_of(metric: str) -> Callable[[ItemResult], float]:
    if metric not in ITEM_SCORES:
        raise InvalidInput(
            f"{metric} is not a mean over items, so it has no paired difference",
            f"compare by one of: {', '.join(sorted(ITEM_SCORES))}",
            code="metric_unpaired",
        )
    return ITEM_SCORES[metric]


def _standing(interval: Interval, margin: float) -> Standing:
    low, high = interval
    if low > margin:
        return Standing.BETTER
    if high < -margin:
        return Standing.WORSE
    return Standing.TIE if -margin <= low and high <= margin else Standing.NOT_PROVEN
