"""Regressions of the floor where an item may bear several labels, with what is chosen by cross-validation on train.

Each label has a regression of its own, with both classes weighted alike: a label that one row in two hundred bears would otherwise be
learned from its absence alone. The weighting is taken off the intercept again, and slope and offset of the log-odds are fitted to rows left
out (Platt 1999), so that what is told are probabilities. Length of the vectors and thresholds are chosen on the same rows.

Floor: a classical model (TF-IDF or frozen embeddings with a linear head), the lowest rung of the ladder.

Words (1-2) and characters within words (3-5) weighted by TF-IDF, then logistic regression: the baseline that short-text classification is
hard to beat with (Wang & Manning 2012, ACL; characters bear typing errors). An encoder's vector of the text beside them knows that other
words mean the same, which counts most where rows are few. Where an item may bear several labels, each has a
regression of its own (``label_regressions.py``), and is given from a probability chosen by cross-validation on train.

Scope of linear models: the vectors that requests are compared with, and scorers compared on labels that were left out of fitting.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailorbird.domain.dataset import Row
from tailorbird.domain.errors import DataInvalid, Unavailable
from tailorbird.domain.evidence import Prediction, ScopeScorer, ScopeTrial
from tailorbird.ports.encoder import Vectors
from tailorbird.rungs.label_thresholds import borne_labels, calibrated_labels, placed
from tailorbird.stats.roc import ScoredRows, compare_scorers
from tailorbird.text.label_rules import THRESHOLD, labels_above, left_out_labels, scores_of, split
from tailorbird.text.linear_classifier import CHARACTERS, WORDS, Floats, LinearScores, LinearText

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
    half is as good for every label. Labels found in a single group are not calibrated; their threshold is a half."""

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
    borne_NK = borne_labels(rows, labels)
    groups = {group: place % _FOLDS for place, group in enumerate(sorted({row.group for row in rows}))}
    fold_N = np.array([groups[row.group] for row in rows])
    classifier.set_params(class_weight="balanced", tol=_TOLERANCE)
    training = _Training(words, vectors, borne_NK, fold_N, classifier)
    first, rest = (range(_FOLDS), range(0)) if len(rows) <= _ENOUGH else (range(1), range(1, 2))
    tried = {length: training.left_out(training.features(length), first) for length in (LENGTHS if vectors is not None else (0.0,))}
    taught_K = training.taught((*first, *rest))
    length = max(tried, key=lambda each: calibrated_labels(tried[each][0][:, taught_K], tried[each][1][:, taught_K], goal).reached)
    matrix = training.features(length)
    more = training.left_out(matrix, rest)
    odds_NK = np.concatenate([tried[length][0], more[0]])[:, taught_K]
    left_NK = np.concatenate([tried[length][1], more[1]])[:, taught_K]
    chosen = calibrated_labels(odds_NK, left_NK, goal)
    weights_KF, intercepts_K = _fitted(classifier, matrix, borne_NK)
    learned_K = _is_mixed(borne_NK)
    slopes_K = np.where(learned_K, placed(chosen.slopes_K, taught_K, 1.0), 1.0)
    offsets_K = np.where(learned_K, placed(chosen.offsets_K, taught_K, 0.0), 0.0)
    thresholds = tuple(placed(np.array(chosen.thresholds), taught_K, THRESHOLD).tolist()) if chosen.thresholds else ()
    weights_KF *= slopes_K[:, None]
    weights_KF[:, words.shape[1] :] *= length
    return LabelRegressions(weights_KF, intercepts_K * slopes_K + offsets_K, thresholds)


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


VARIANT, VARIANT_WITH_VECTORS = "tf-idf + logistic regression", "tf-idf + vectors + logistic regression"
#: Length of a vector beside blocks of length 1: what a penalty that all share leaves of it. Chosen on dev of Banking77.
_LENGTH_OF_VECTORS = 3.0
#: Inverse strength of the L2 penalty. TF-IDF rows have length 1 a block, for which the library's default of 1 underfits: on Banking77 with
#: 10 messages an intent it scores 0.56, while 10 scores 0.67 and 100 scores 0.68.
_PENALTY = 30.0
#: Rows predicted one by one first, for their latency as single requests.
_TIMED = 80


#: Texts to their vectors.
Embed = Callable[[Sequence[str]], Vectors]


@dataclass(frozen=True)
class FloorModel:
    """A fitted floor. ``parameters`` counts its coefficients, ``seconds`` is the time to fit.

    ``linear`` is what is stored and answers. ``embed`` gives the vectors that it reads, where it reads them. ``thresholds`` are the
    probabilities from which each label is given where an item may bear several; empty: a half.
    """

    labels: tuple[str, ...]
    parameters: int
    seconds: float
    linear: LinearText
    variant: str = VARIANT
    embed: Embed | None = None
    thresholds: tuple[float, ...] = ()

    def predict(self, rows: Sequence[Row], concurrency: int = 1) -> list[Prediction]:
        """One prediction per row, in order. The first rows are asked ``concurrency`` at a time, as a server would be, and carry
        ``request_ms``."""
        asked = min(_TIMED, len(rows))
        alone = [self._answer(rows[start : min(start + concurrency, asked)], timed=True) for start in range(0, asked, concurrency)]
        rest = self._answer(rows[_TIMED:], timed=False) if len(rows) > _TIMED else []
        return [prediction for answered in alone for prediction in answered] + rest

    def _answer(self, rows: Sequence[Row], timed: bool) -> list[Prediction]:
        started = time.perf_counter()
        found = self.scores([row.text for row in rows])
        elapsed = (time.perf_counter() - started) * 1000
        times = {"latency_ms": elapsed / len(rows), "request_ms": elapsed if timed else None}
        return [
            Prediction(item=row.id, **times, **self._chosen(scores_K), scope=scope)
            for row, scores_K, scope in zip(rows, found.nats_BK, self.scopes(found), strict=True)
        ]

    def _chosen(self, scores_K: NDArray[np.float64]) -> dict[str, Any]:
        scores = dict(zip(self.labels, (float(score) for score in scores_K), strict=True))
        if self.linear.alone:
            return {"answer": labels_above({label: math.exp(score) for label, score in scores.items()}, self.thresholds)}
        return {"answer": self.labels[int(np.argmax(scores_K))], "log_probabilities": scores}

    def scores(self, texts: Sequence[str]) -> LinearScores:
        """Scores of texts, by words and, where it reads them, vectors."""
        return self.linear.scores(texts, self.embed(texts) if self.embed else None)

    def scopes(self, found: LinearScores) -> list[dict[ScopeScorer, float]]:
        """How well each text lies in scope; nothing where an item may bear several labels."""
        if self.linear.alone:
            return [{} for _ in found.energy_B]
        nearness = [None] * len(found.energy_B) if found.nearness_B is None else found.nearness_B.tolist()
        return [scores_of(*each) for each in zip(found.nats_BK.tolist(), found.energy_B.tolist(), nearness, strict=True)]


def fit_floor(
    train: Sequence[Row], labels: Sequence[str], seed: int, *, many: bool = False, embed: Embed | None = None, goal: str = "micro_f1"
) -> FloorModel:
    """Fits the floor of a classify task; equal rows and seed give an equal model, in any order.

    With ``many``, a classifier a label, and the threshold that serves ``goal`` (a key of ``thresholds.GOALS``) best. With ``embed``, which
    gives vectors of length 1, it reads these too.

    Raises DataInvalid when train shows fewer than two labels (``many``: none) or one that ``labels`` lacks, Unavailable when scikit-learn
    is not installed.
    """
    rows = sorted(train, key=lambda row: row.id)
    targets = [split(row.answer) if many else (row.answer,) for row in rows]
    seen = {label for target in targets for label in target}
    fewest = 1 if many else 2
    unknown = seen - set(labels)
    if len(seen) < fewest or unknown:
        why = "a label that the task does not have" if unknown else "fewer than two labels" if fewest > 1 else "no label at all"
        raise DataInvalid(f"the training rows show {why}", "give training rows of every label of the task", code="labels_differ")
    started = time.perf_counter()
    texts = [row.text for row in rows]
    features, classifier = _pipeline(len(rows), seed)
    words, vectors = features.fit_transform(texts), embed(texts) if embed else None
    variant, thresholds = VARIANT_WITH_VECTORS if embed else VARIANT, tuple[float, ...]()
    # The solver's products are short: threads that wait for one another at each cost many times what they save, most on a busy machine.
    with _one_thread():
        if many:
            found = fit_label_regressions(words, vectors, rows, labels, classifier, goal)
            weights_KF, intercepts_K, thresholds = found.weights_KF, found.intercepts_K, found.thresholds
            parameters = int(weights_KF.size + intercepts_K.size)
        else:
            classifier.fit(_beside(words, vectors), [target[0] for target in targets])
            weights_KF, intercepts_K = _over_labels(tuple(labels), classifier)
            # What is served reads vectors of length 1.
            weights_KF[:, words.shape[1] :] *= _LENGTH_OF_VECTORS
            parameters = int(classifier.coef_.size + classifier.intercept_.size)
    linear = _linear(tuple(labels), features, weights_KF, intercepts_K, alone=many)
    return FloorModel(tuple(labels), parameters, time.perf_counter() - started, linear, variant, embed, thresholds)


def _one_thread() -> AbstractContextManager[Any]:
    from threadpoolctl import threadpool_limits  # scikit-learn's own

    limited: AbstractContextManager[Any] = threadpool_limits(limits=1)
    return limited


def _beside(words: Any, vectors: Any) -> Any:
    """The features of words, with those of vectors behind them."""
    from scipy.sparse import csr_matrix, hstack

    return words if vectors is None else hstack([words, csr_matrix(_LENGTH_OF_VECTORS * vectors)], format="csr")


def _over_labels(labels: tuple[str, ...], classifier: Any) -> tuple[Floats, Floats]:
    """Weights and intercepts of what was fitted, over all labels of the task: train may lack some."""
    seen = list(classifier.classes_)
    weights_SF, intercepts_S = classifier.coef_, classifier.intercept_
    if len(seen) == 2 < len(labels):
        weights_SF, intercepts_S = np.concatenate([-weights_SF, weights_SF]) / 2, np.concatenate([-intercepts_S, intercepts_S]) / 2
    if len(labels) > 2:
        places = [labels.index(label) for label in seen]
        weights_KF, intercepts_K = np.zeros((len(labels), weights_SF.shape[1])), np.full(len(labels), UNSEEN)
        weights_KF[places], intercepts_K[places] = weights_SF, intercepts_S
    else:
        # The library's score of two labels speaks for the second in its own order, which is the labels' where they are sorted.
        sign = 1.0 if seen == list(labels) else -1.0
        weights_KF, intercepts_K = sign * weights_SF, sign * intercepts_S
    return weights_KF, intercepts_K


def _linear(labels: tuple[str, ...], features: Any, weights_KF: Floats, intercepts_K: Floats, *, alone: bool) -> LinearText:
    """What was fitted, as it is stored."""
    (_, words), (_, characters) = features.transformer_list
    counted = len(words.vocabulary_) + len(characters.vocabulary_)
    after = len(words.vocabulary_)
    return LinearText(
        labels=labels,
        words={feature: int(place) for feature, place in words.vocabulary_.items()},
        characters={feature: after + int(place) for feature, place in characters.vocabulary_.items()},
        idf_F=np.concatenate([words.idf_, characters.idf_]),
        weights_KF=weights_KF,
        intercepts_K=intercepts_K,
        width=weights_KF.shape[1] - counted,
        alone=alone,
    )


def _pipeline(rows: int, seed: int) -> tuple[Any, Any]:
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import FeatureUnion
    except ModuleNotFoundError as error:
        raise Unavailable(
            "the classical reference needs scikit-learn, which is not installed",
            "install what this machine needs to train and run models: pip install 'tailorbird[local]'",
            code="package_missing",
        ) from error
    # In a large set a feature of a single row is noise that only costs time.
    rarest = 2 if rows > 1_000 else 1
    words = TfidfVectorizer(ngram_range=WORDS, sublinear_tf=True, min_df=rarest)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=CHARACTERS, sublinear_tf=True, min_df=rarest)
    features = FeatureUnion([("words", words), ("characters", characters)])
    return features, LogisticRegression(C=_PENALTY, max_iter=1_000, random_state=seed)


#: Fits a model to rows that bear the labels.
Fit = Callable[[Sequence[Row], Sequence[str]], FloorModel]


def remembered(embed: Embed) -> Embed:
    """``embed``, which is asked of each text once."""
    known: dict[str, Vectors] = {}

    def of(texts: Sequence[str]) -> Vectors:
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        if missing:
            known.update(zip(missing, embed(missing), strict=True))
        return np.stack([known[text] for text in texts]) if texts else embed(())

    return of


def with_references(model: FloorModel, train: Sequence[Row]) -> FloorModel:
    """The model with the vectors of its training rows, where it reads vectors: rounded as they are stored, so that what is measured is what
    is served."""
    if model.embed is None or model.linear.alone:
        return model
    vectors_NW = model.embed([row.text for row in sorted(train, key=lambda row: row.id)])
    return replace(model, linear=replace(model.linear, references_NW=vectors_NW.astype(np.float16).astype(np.float32)))


def trial_of(fit: Fit, rows: tuple[Sequence[Row], Sequence[Row]], labels: Sequence[str], confidence: float) -> ScopeTrial | None:
    """Scorers compared on the second of ``rows``, dev, by models that are fitted to the first, train, without some of the labels; each
    label is left out once, and its rows stand for what is out of scope. None with too few labels."""
    train, dev = rows
    folds = []
    for gone in left_out_labels(labels):
        learned = [row for row in train if row.answer not in gone]
        kept = [label for label in labels if label not in gone]
        if len({row.answer for row in learned}) < 2:
            continue
        model = with_references(fit(learned, kept), learned)
        known, outside = ([row for row in dev if (row.answer in gone) is side] for side in (False, True))
        folds.append((_scored(model, known), _scored(model, outside)))
    return compare_scorers("labels", folds, confidence)


def _scored(model: FloorModel, rows: Sequence[Row]) -> ScoredRows:
    scores = model.scopes(model.scores([row.text for row in rows])) if rows else []
    return ScoredRows(scores, [row.group for row in rows])
