"""Floor: a classical model (TF-IDF or frozen embeddings with a linear head), the lowest rung of the ladder.

Words (1-2) and characters within words (3-5) weighted by TF-IDF, then logistic regression: the baseline that short-text classification is
hard to beat with (Wang & Manning 2012, ACL; characters bear typing errors). An encoder's vector of the text beside them knows that other
words mean the same, which counts most where rows are few (docs/decisions/0047). Where an item may bear several labels, each has a
regression of its own (``label_regressions.py``), and is given from a probability chosen by cross-validation on train (docs/decisions/0054).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailorbird.domain.dataset import Row
from tailorbird.domain.errors import DataInvalid, Unavailable
from tailorbird.domain.evidence import Prediction
from tailorbird.domain.scope import ScopeScorer
from tailorbird.ports.encoder import Vectors
from tailorbird.rungs.label_regressions import UNSEEN, fit_label_regressions
from tailorbird.text.label_rules import labels_above, scores_of, split
from tailorbird.text.linear_classifier import CHARACTERS, WORDS, Floats, LinearScores, LinearText

VARIANT, VARIANT_WITH_VECTORS = "tf-idf + logistic regression", "tf-idf + vectors + logistic regression"
#: Length of a vector beside blocks of length 1: what a penalty that all share leaves of it. Chosen on dev of Banking77
#: (docs/decisions/0047).
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
    _check_targets({label for target in targets for label in target}, labels, fewest=1 if many else 2)
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


def _check_targets(seen: set[str], labels: Sequence[str], fewest: int) -> None:
    unknown = seen - set(labels)
    if len(seen) < fewest or unknown:
        why = "a label that the task does not have" if unknown else "fewer than two labels" if fewest > 1 else "no label at all"
        raise DataInvalid(f"the training rows show {why}", "give training rows of every label of the task", code="labels_differ")
