"""Regressions of the floor where an item may bear several labels, with what is chosen by cross-validation on train.

Each label has a regression of its own, with both classes weighted alike: a label that one row in two hundred bears would otherwise be
learned from its absence alone. The weighting is taken off the intercept again, and slope and offset of the log-odds are fitted to rows left
out (Platt 1999), so that what is told are probabilities. Length of the vectors and thresholds are chosen on the same rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailorbird.domain.dataset import Row
from tailorbird.rungs.label_thresholds import GOALS, fitting_thresholds, label_calibrations, placed
from tailorbird.text.label_rules import THRESHOLD, split
from tailorbird.text.linear_classifier import Floats

#: Lengths of a vector beside blocks of length 1: where rows are many and a few words tell the label, long vectors only cost.
LENGTHS = (1.0, 3.0)
#: Score of a label that train never showed (nats).
UNSEEN = -30.0
#: Log-odds of rows left out at most: a label whose only rows are left out together must not decide the calibration of all.
_MOST = 12.0
#: The solver ends when no weight's gradient is above this. Losses are means over rows: where few bear a label, the library's own bound is
#: reached at once, with nothing learned.
_TOLERANCE = 1e-5
#: Parts of train for the cross-validation. Above so many rows the length is chosen on one of them, and the rest on two: that is enough.
_FOLDS, _ENOUGH = 5, 2_000


@dataclass(frozen=True)
class LabelRegressions:
    """Weights (those of the vectors last, for vectors of length 1) and intercepts of calibrated log-odds; ``thresholds`` are empty where a
    half is as good for every label. A label that is told of rows left out by rows that do not teach it, since one group alone bears it, is
    neither calibrated nor has it a threshold but a half."""

    weights_KF: Floats
    intercepts_K: Floats
    thresholds: tuple[float, ...]


@dataclass(frozen=True)
class _Training:
    """Features of words and vectors (N, ...), the labels that rows bear, and the part in which each row is left out."""

    words: Any
    vectors: Any
    borne_NK: NDArray[np.bool_]
    fold_N: NDArray[np.int_]
    classifier: Any

    def features(self, length: float) -> Any:
        from scipy.sparse import csr_matrix, hstack

        return self.words if self.vectors is None else hstack([self.words, csr_matrix(length * self.vectors)], format="csr")

    def taught(self, folds: Sequence[int]) -> NDArray[np.bool_]:
        """Labels (K) of which there is as much to learn without each of ``folds`` as with it: what is told of any other label, of rows left
        out, is nothing that was learned."""
        whole_K = _is_mixed(self.borne_NK)
        parts = [self.borne_NK[self.fold_N != fold] for fold in folds if (self.fold_N == fold).any()]
        same_PK = np.array([_is_mixed(part) == whole_K for part in parts if len(part)], dtype=bool).reshape(-1, len(whole_K))
        taught_K: NDArray[np.bool_] = np.all(same_PK, axis=0)
        return taught_K

    def left_out(self, matrix: Any, folds: Sequence[int]) -> tuple[Floats, NDArray[np.bool_]]:
        """Log-odds of the rows of ``folds`` by regressions that had not learned them, and what these rows bear."""
        scores, borne = [np.zeros((0, self.borne_NK.shape[1]))], [self.borne_NK[:0]]
        for fold in folds:
            left, learned = np.flatnonzero(self.fold_N == fold), np.flatnonzero(self.fold_N != fold)
            if len(left) and len(learned):
                weights_KF, intercepts_K = _fitted(self.classifier, matrix[learned], self.borne_NK[learned])
                scores.append(np.clip(np.asarray(matrix[left] @ weights_KF.T) + intercepts_K, -_MOST, _MOST))
                borne.append(self.borne_NK[left])
        return np.concatenate(scores), np.concatenate(borne)


def fit_label_regressions(
    words: Any, vectors: Any, rows: Sequence[Row], labels: Sequence[str], classifier: Any, goal: str
) -> LabelRegressions:
    """A regression a label of ``rows``, whose ``words`` and ``vectors`` (None: words alone) are given; ``goal`` is a key of ``GOALS``.

    ``classifier`` is the unfitted logistic regression. A group of rows is left out as one.
    """
    targets = [split(row.answer) for row in rows]
    borne_NK = np.array([[label in target for label in labels] for target in targets], dtype=bool)
    groups = {group: place % _FOLDS for place, group in enumerate(sorted({row.group for row in rows}))}
    fold_N = np.array([groups[row.group] for row in rows])
    classifier.set_params(class_weight="balanced", tol=_TOLERANCE)
    training = _Training(words, vectors, borne_NK, fold_N, classifier)
    first, rest = (range(_FOLDS), range(0)) if len(rows) <= _ENOUGH else (range(1), range(1, 2))
    tried = {length: training.left_out(training.features(length), first) for length in (LENGTHS if vectors is not None else (0.0,))}
    taught_K = training.taught((*first, *rest))
    length = max(tried, key=lambda each: _reached(tried[each][0][:, taught_K], tried[each][1][:, taught_K], goal))
    matrix = training.features(length)
    more = training.left_out(matrix, rest)
    odds_NK = np.concatenate([tried[length][0], more[0]])[:, taught_K]
    left_NK = np.concatenate([tried[length][1], more[1]])[:, taught_K]
    slopes_K, offsets_K = label_calibrations(odds_NK, left_NK)
    thresholds = fitting_thresholds(_probabilities(odds_NK * slopes_K + offsets_K), left_NK, goal)
    weights_KF, intercepts_K = _fitted(classifier, matrix, borne_NK)
    slopes_K, offsets_K = placed(slopes_K, taught_K, 1.0), placed(offsets_K, taught_K, 0.0)
    nothing_learned_K = ~_is_mixed(borne_NK)
    slopes_K, offsets_K = np.where(nothing_learned_K, 1.0, slopes_K), np.where(nothing_learned_K, 0.0, offsets_K)
    if thresholds:
        thresholds = tuple(placed(np.array(thresholds), taught_K, THRESHOLD).tolist())
    weights_KF *= slopes_K[:, None]
    weights_KF[:, words.shape[1] :] *= length
    return LabelRegressions(weights_KF, intercepts_K * slopes_K + offsets_K, thresholds)


def _reached(odds_NK: Floats, borne_NK: NDArray[np.bool_], goal: str) -> float:
    """The goal on rows left out, at the thresholds that serve it best there."""
    slopes_K, offsets_K = label_calibrations(odds_NK, borne_NK)
    probabilities_NK = _probabilities(odds_NK * slopes_K + offsets_K)
    thresholds = fitting_thresholds(probabilities_NK, borne_NK, goal) or THRESHOLD
    return GOALS[goal](probabilities_NK >= np.asarray(thresholds), borne_NK.astype(float)) if len(odds_NK) else 0.0


def _is_mixed(borne_NK: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Labels that some rows bear and some do not."""
    found: NDArray[np.bool_] = np.any(borne_NK, axis=0) & ~np.all(borne_NK, axis=0)
    return found


def _fitted(classifier: Any, matrix: Any, borne_NK: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Weights and intercepts of each label's own regression; of one that all rows bear, or none, there is nothing to learn."""
    from sklearn.base import clone

    weights_KF, intercepts_K = np.zeros((borne_NK.shape[1], matrix.shape[1])), np.zeros(borne_NK.shape[1])
    for place, borne_N in enumerate(borne_NK.T):
        if borne_N.all() or not borne_N.any():
            intercepts_K[place] = -UNSEEN if borne_N.any() else UNSEEN
            continue
        fitted = clone(classifier).fit(matrix, borne_N)
        weights_KF[place] = fitted.coef_[0]
        # Weighted alike, a label's odds are those of a world in which half of the rows bear it.
        intercepts_K[place] = fitted.intercept_[0] + np.log(borne_N.mean() / (1 - borne_N.mean()))
    return weights_KF, intercepts_K


def _probabilities(odds: Floats) -> Floats:
    return np.exp(-np.logaddexp(0.0, -odds))
