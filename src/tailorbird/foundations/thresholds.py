"""From which probability a label is given, where an item may bear several: chosen on rows that were not learned.

In: probabilities of labels, the labels that items bear, what counts. Out: one threshold for all labels. Must not know: models, prompts.

F1 is at its highest when labels are given from a probability of half of that F1 on (Lipton et al. 2014, arXiv 1402.1892), which is never
more than a half, and far less where labels are rare or hard to tell. Few rows held out bear any label, so counting what each threshold
would have reached on them is mostly chance. Instead their labels calibrate the probabilities (two numbers, logistic regression on the
log-odds: Platt 1999), and the threshold is the one whose expected value is highest under what was calibrated. One for all labels: most
labels occur too seldom among rows held out to bear one of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from tailorbird.foundations.labelling import THRESHOLD

Floats = NDArray[np.float64]
Marks = NDArray[np.bool_]

#: Thresholds that are tried: evenly in log-odds.
GRID = tuple(round(float(p), 4) for p in 1 / (1 + np.exp(-np.linspace(-6, 6, 49))))
#: Labels that the items must bear in all: fewer tell nothing.
FEWEST = 4
#: Standard deviation of the two numbers around "as it is" (slope 1, offset 0) before the rows are seen.
_SPREAD = 2.0
_LEAST = 1e-9


def _micro_f1(given_NK: Marks, borne_NK: Floats) -> float:
    total = given_NK.sum() + borne_NK.sum()
    return float(2 * borne_NK[given_NK].sum() / total) if total else 1.0


def _macro_f1(given_NK: Marks, borne_NK: Floats) -> float:
    """Over the labels that occur among the items or are given."""
    total_K = given_NK.sum(axis=0) + borne_NK.sum(axis=0)
    occurs_K = total_K > 0
    hits_K = (given_NK * borne_NK).sum(axis=0)
    return float(np.mean(2 * hits_K[occurs_K] / total_K[occurs_K])) if occurs_K.any() else 1.0


def _exact_match(given_NK: Marks, borne_NK: Floats) -> float:
    return float(np.where(given_NK, borne_NK, 1 - borne_NK).prod(axis=1).mean())


#: What may be asked for, as KPIs name it, of labels that are given and the probabilities that they are borne (0 or 1 where that is known;
#: else expected values, labels taken as independent, F1 as the ratio of expectations).
GOALS: Mapping[str, Callable[[Marks, Floats], float]] = {"micro_f1": _micro_f1, "macro_f1": _macro_f1, "exact_match": _exact_match}


def fitting_threshold(probabilities_NK: Floats, borne_NK: Marks, goal: str) -> float:
    """The threshold at which the expected ``goal`` (a key of ``GOALS``) is highest.

    A half where nothing is better, or where the items bear fewer than four labels in all. Of several that are best the middle one is taken,
    the farthest from any change.
    """
    if borne_NK.sum() < FEWEST:
        return THRESHOLD
    likely_NK = _calibrated(probabilities_NK, borne_NK)
    expected = np.array([GOALS[goal](probabilities_NK >= bound, likely_NK) for bound in GRID])
    highest = expected.max() - _LEAST
    if GOALS[goal](probabilities_NK >= THRESHOLD, likely_NK) >= highest:
        return THRESHOLD
    best = np.flatnonzero(expected >= highest)
    return GRID[int(best[len(best) // 2])]


def _calibrated(probabilities_NK: Floats, borne_NK: Marks) -> Floats:
    """The probabilities with slope and offset of their log-odds fitted to ``borne_NK`` (Newton's method, steps of at most 1)."""
    bounded = np.clip(probabilities_NK, _LEAST, 1 - _LEAST)
    odds_M = (np.log(bounded) - np.log1p(-bounded)).ravel()
    inputs_M2, borne_M = np.stack([odds_M, np.ones_like(odds_M)], axis=1), borne_NK.ravel().astype(float)
    as_it_is = np.array([1.0, 0.0])
    fitted, precision = as_it_is.copy(), np.eye(2) / _SPREAD**2
    for _ in range(100):
        likely_M = _logistic(inputs_M2 @ fitted)
        gradient = inputs_M2.T @ (likely_M - borne_M) + precision @ (fitted - as_it_is)
        curvature = (inputs_M2 * (likely_M * (1 - likely_M))[:, None]).T @ inputs_M2 + precision
        step = np.linalg.solve(curvature, gradient)
        fitted = fitted - step / max(1.0, float(np.abs(step).max()))
        if np.abs(step).max() < _LEAST:
            break
    return _logistic(inputs_M2 @ fitted).reshape(probabilities_NK.shape)


def _logistic(odds: Floats) -> Floats:
    likely: Floats = 1 / (1 + np.exp(-np.clip(odds, -500, 500)))
    return likely
