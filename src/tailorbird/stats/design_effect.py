"""Design effect of clustered items: how many independent items they are worth.

Items count as n / deff, with deff the ratio of the cluster-robust variance of the share to the independent one (Kish 1965; Rao & Scott
1992), and no less than 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

#: The part of one more group, gone the rarer way, that is counted in where groups tell how alike their items are. Few wrong answers in few
#: groups say little of it, and an estimate that is too low by chance passes what it should not: without this, the rule errs in up to 7.8 %
#: of stories at nominal 5 %. The smallest of the weights tried that keeps to 5 % (benchmarks/evaluation).
IMAGINED = 0.2
#: The same of means of scores from 0 to 1, by the same rule: at 0.2 they erred up to 1.15 times as often as stated.
IMAGINED_OF_SCORES = 0.3
#: A share of all items, and items at least, that are much for one group.
_LARGE, _FEW = 0.2, 5


def worth(rates_S: Floats, squares_S: Floats, sizes_G: Floats, *, of_scores: bool = False) -> Floats:
    """The items that S samples are worth, over the same groups of ``sizes_G`` items.

    ``rates_S`` are the shares of hits, ``squares_S`` the sums over groups of (hits - size · share)². Where all items agree, each group
    counts as about one item. Hits are worth no more than they are many; scores from 0 to 1 (``of_scores``: sums in place of hits) vary less
    than a coin of the same mean, so that an item is worth several hits.
    """
    n, groups = float(sizes_G.sum()), len(sizes_G)
    if groups == 1:
        return np.ones_like(rates_S)
    typical = typical_size(sizes_G)
    independent_S = rates_S * (1 - rates_S) * n * n / (n - 1)
    one_more_S = (IMAGINED_OF_SCORES if of_scores else IMAGINED) * typical * np.maximum(rates_S, 1 - rates_S) ** 2
    robust_S = squares_S * groups / (groups - 1) + typical * one_more_S
    items_S: Floats = n / np.maximum(1e-9 if of_scores else 1.0, robust_S / (independent_S + one_more_S))
    return items_S


def typical_size(sizes_G: Floats) -> float:
    """The size of the group that an item is in, on average over items."""
    return float((sizes_G**2).sum() / sizes_G.sum())


def are_worth_less(sizes: Sequence[int]) -> bool:
    """True where groups of these sizes make items worth much less than they are many: few groups, or one that is large."""
    return 2 * len(sizes) < sum(sizes) or max(sizes, default=0) > max(_FEW, _LARGE * sum(sizes))
