"""Inter-rater agreement beyond chance: Krippendorff's alpha, with bootstrap intervals over items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from tailorbird.stats.intervals import Interval

Ratings = Sequence[Sequence[Hashable | None]]


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
