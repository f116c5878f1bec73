"""Inter-rater agreement beyond chance: Cohen's and Fleiss' kappa, Krippendorff's alpha, with bootstrap intervals over items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from tailorbird.stats.intervals import Interval, wilson

Ratings = Sequence[Sequence[Hashable | None]]


def cohen_kappa(ratings: Ratings) -> float | None:
    """Cohen 1960, for two raters; items that only one rated are left out. None without common items, or where both always say the same
    one."""
    pairs = _rated_by_both(ratings)
    chance = _chance(pairs) if pairs else 1.0
    return (sum(one == other for one, other in pairs) / len(pairs) - chance) / (1 - chance) if chance < 1 else None


def cohen_floor(ratings: Ratings, confidence: float) -> float | None:
    """Cohen's kappa if the share of items that were rated alike were no more than the lower end of Wilson's interval for it.

    A bootstrap of perfect agreement never draws a disagreement, however few the items are; this bound does not collapse. None where kappa
    is.
    """
    pairs = _rated_by_both(ratings)
    chance = _chance(pairs) if pairs else 1.0
    if chance == 1:
        return None
    return (wilson(sum(one == other for one, other in pairs), len(pairs), confidence)[0] - chance) / (1 - chance)


def _rated_by_both(ratings: Ratings) -> list[tuple[Hashable, Hashable]]:
    return [(one, other) for one, other in ratings if one is not None and other is not None]


def _chance(pairs: Sequence[tuple[Hashable, Hashable]]) -> float:
    """How often two raters say the same by chance, from how often each says what."""
    ones, others = Counter(one for one, _ in pairs), Counter(other for _, other in pairs)
    return sum(ones[category] * others[category] for category in ones) / len(pairs) ** 2


def fleiss_kappa(ratings: Ratings) -> float | None:
    """Fleiss 1971, for a fixed number of raters an item, who need not be the same. None where that number differs, is below 2, or where
    only one category was used."""
    counts = [Counter(rating for rating in row if rating is not None) for row in ratings]
    raters = {count.total() for count in counts}
    if len(raters) != 1 or (n := raters.pop()) < 2:
        return None
    total = sum(counts, Counter[Hashable]())
    chance = sum((share / total.total()) ** 2 for share in total.values())
    observed = sum(sum(c * (c - 1) for c in count.values()) for count in counts) / (len(counts) * n * (n - 1))
    return (observed - chance) / (1 - chance) if chance < 1 else None


def krippendorff_alpha(ratings: Ratings) -> float | None:
    """Krippendorff 2011 with the nominal metric: any number of raters, any gaps. None where no item has two ratings, or only one category
    was used."""
    pairable = [count for row in ratings if (count := Counter(rating for rating in row if rating is not None)).total() >= 2]
    total = sum(pairable, Counter[Hashable]())
    n = total.total()
    expected = n * n - sum(c * c for c in total.values())
    if not expected:
        return None
    observed = sum((count.total() ** 2 - sum(c * c for c in count.values())) / (count.total() - 1) for count in pairable)
    return 1 - (n - 1) * observed / expected


def over_items(
    coefficient: Callable[[Ratings], float | None], ratings: Ratings, confidence: float, seed: int, resamples: int = 1000
) -> Interval | None:
    """Percentile bootstrap interval of ``coefficient`` over whole items. None where it is undefined on most draws."""
    generator = np.random.default_rng(seed)
    drawn = [
        coefficient([ratings[i] for i in generator.integers(0, len(ratings), len(ratings))]) for _ in range(resamples if ratings else 0)
    ]
    found = [value for value in drawn if value is not None]
    if len(found) < max(1, resamples // 2):
        return None
    low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
