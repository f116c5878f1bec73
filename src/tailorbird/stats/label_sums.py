"""Sums of item weights by label, for many sets of weights at a time, and the means over labels that rest on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tailorbird.stats.intervals import Floats


class LabelSums(NamedTuple):
    """Weights (BK) of the items that bear a label, that were given it, and of both."""

    borne_BK: Floats
    given_BK: Floats
    hits_BK: Floats


def sums_by(places_N: NDArray[np.intp], count: int) -> Callable[[Floats], Floats]:
    """Sums of numbers (BN) over the items at each of ``count`` places (BK)."""
    order_N = np.argsort(places_N, kind="stable")
    used, starts = np.unique(places_N[order_N], return_index=True)

    def summed(numbers_BN: Floats) -> Floats:
        found_BK = np.zeros((len(numbers_BN), count))
        if len(used):
            found_BK[:, used] = np.add.reduceat(numbers_BN[:, order_N], starts, axis=1)
        return found_BK

    return summed


def macro_f1(sums: LabelSums) -> Floats:
    """Mean F1 (B) over the labels that some item bears: the same for all candidates. Where no item bears any, 1 if none was given, else 0.

    A wrong answer that nobody bears counts against the label that was missed, as any other wrong answer does."""
    scores_BK = shares(2 * sums.hits_BK, sums.given_BK + sums.borne_BK)
    mean_B = _mean_of_borne(scores_BK, sums.borne_BK)
    return np.where(np.isnan(mean_B), ~sums.given_BK.any(axis=1), mean_B)


def micro_f1(sums: LabelSums) -> Floats:
    """F1 (B) over all labels at once; 1 where no label was borne or given."""
    total_B = sums.given_BK.sum(axis=1) + sums.borne_BK.sum(axis=1)
    return np.where(total_B > 0, shares(2 * sums.hits_BK.sum(axis=1), total_B), 1.0)


def balanced_accuracy(sums: LabelSums) -> Floats:
    """Mean recall (B) over the labels that some item bears."""
    return _mean_of_borne(shares(sums.hits_BK, sums.borne_BK), sums.borne_BK)


def _mean_of_borne(scores_BK: Floats, borne_BK: Floats) -> Floats:
    """Mean over the labels that are borne; NaN where none is."""
    return shares(np.where(borne_BK > 0, scores_BK, 0.0).sum(axis=1), (borne_BK > 0).sum(axis=1).astype(float))


def shares(parts: Floats, wholes: Floats) -> Floats:
    """Parts of wholes; NaN of none."""
    return np.divide(parts, wholes, out=np.full_like(parts, np.nan), where=wholes > 0)
