"""Linear classifier over TF-IDF features and vectors, as files: the released floor.

    floor.json      labels, features of both blocks in the order of their weights, width of the vectors where there are any, and whether
                    each label is judged alone
    idf.npy         (features,) inverse document frequencies, words before characters
    weights.npy     (labels, features), or (1, features) of two labels of which one is borne, those of the vectors last; intercepts.npy
                    beside them
    references.npy  (rows, width) where requests out of scope are refused and vectors are read: those of the training rows, in fp16
    encoder/        what gives the vectors, where there are any
    adapter/        in its place: what changes the encoder that the release names (a LoRA adapter in PEFT format)

Features are counted and weighted as scikit-learn's ``TfidfVectorizer`` does (words 1-2; characters within words 3-5; sublinear counts,
each block of length 1), so that what is served is what was fitted, without scikit-learn or a language model.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tailorbird.domain.errors import ModelInvalid

Floats: TypeAlias = NDArray[np.float64]

_REFERENCES = "references.npy"
#: Products of texts with references that are held at a time.
_PRODUCTS = 2**24
#: Bytes of a feature's name, its place, and its entry in the table of names: measured at 126, of names of 3 to 18 letters.
_FEATURE_BYTES = 126
_DESCRIPTION, _IDF, _WEIGHTS, _INTERCEPTS = "floor.json", "idf.npy", "weights.npy", "intercepts.npy"
#: The folders within the model's that hold its encoder, or an adapter of one that stands elsewhere.
ENCODER, ADAPTER = "encoder", "adapter"
WORDS, CHARACTERS = (1, 2), (3, 5)
_WORD = re.compile(r"(?u)\b\w\w+\b")
_SPACES = re.compile(r"\s\s+")


@dataclass(frozen=True)
class LinearScores:
    """Scores of texts. ``nats_BK`` are the labels' log-probabilities, normalised unless each is judged alone; ``energy_B`` the logarithms
    of the sums by which they were (0 where they were not), ``nearness_B`` the cosine of a text's vector and
    the nearest reference, None without references."""

    nats_BK: Floats
    energy_B: Floats
    nearness_B: Floats | None = None


@dataclass(frozen=True)
class LinearText:
    """A fitted model. ``words`` and ``characters`` map features to their place in ``idf`` and ``weights``.

    The last ``width`` weights are those of a text's vector, which an encoder gives; 0: it reads words and characters alone. ``alone``: an
    item may bear several labels, and each is judged by itself. ``references_NW``, vectors of length 1, are
    kept where requests out of scope are refused.
    """

    labels: tuple[str, ...]
    words: Mapping[str, int]
    characters: Mapping[str, int]
    idf_F: Floats
    weights_KF: Floats
    intercepts_K: Floats
    width: int = 0
    alone: bool = False
    references_NW: NDArray[np.float32] | None = None

    @property
    def nbytes(self) -> int:
        """Memory of the model, without its encoder: all of its arrays, and the features' names with their places, at so much each."""
        arrays = (self.idf_F, self.weights_KF, self.intercepts_K, *(() if self.references_NW is None else (self.references_NW,)))
        return sum(int(array.nbytes) for array in arrays) + _FEATURE_BYTES * (len(self.words) + len(self.characters))

    def log_probabilities(self, texts: Sequence[str], vectors_BW: NDArray[np.float32] | None = None) -> Floats:
        """(texts, labels), in nats, normalised over the labels unless each is judged alone. ``vectors_BW`` are those of the texts, needed
        where ``width`` is not 0."""
        return self.scores(texts, vectors_BW).nats_BK

    def scores(self, texts: Sequence[str], vectors_BW: NDArray[np.float32] | None = None) -> LinearScores:
        """As ``log_probabilities``, with what tells whether the texts are in scope."""
        scores_BK = np.array([self._scores(text) for text in texts])
        if self.width:
            assert vectors_BW is not None, "this floor reads vectors too"
            scores_BK += vectors_BW.astype(np.float64) @ self.weights_KF[:, -self.width :].T
        if self.alone:
            return LinearScores(-np.logaddexp(0.0, -scores_BK), np.zeros(len(texts)))
        if len(self.labels) == 2:
            scores_BK = np.concatenate([-scores_BK / 2, scores_BK / 2], axis=1)
        highest_B1 = scores_BK.max(axis=1, keepdims=True)
        total_B1 = highest_B1 + np.log(np.exp(scores_BK - highest_B1).sum(axis=1, keepdims=True))
        nearness_B = None
        if self.references_NW is not None and vectors_BW is not None:
            # Cosine of each text to the nearest reference, for so many texts at a time that the products stay small.
            references_NW = self.references_NW
            together = max(1, _PRODUCTS // max(1, len(references_NW)))
            parts = [vectors_BW[start : start + together] for start in range(0, len(vectors_BW), together)]
            found = [(part @ references_NW.T).max(axis=1).astype(np.float64) for part in parts]
            nearness_B = np.concatenate(found) if found else np.zeros(0)
        return LinearScores(scores_BK - total_B1, total_B1[:, 0], nearness_B)

    def _scores(self, text: str) -> Floats:
        scores_K: Floats = self.intercepts_K.copy()
        if not (self.words or self.characters):
            return scores_K  # it reads vectors alone: to count features takes longer than all else here
        for counts in (_known(word_features(text), self.words), _known(character_features(text), self.characters)):
            places, times = np.array(list(counts), dtype=np.intp), np.array(list(counts.values()), dtype=float)
            weighted = (1 + np.log(times)) * self.idf_F[places] if len(places) else times
            length = math.sqrt(float(weighted @ weighted))
            if length:
                scores_K += self.weights_KF[:, places] @ (weighted / length)
        return scores_K


def word_features(text: str) -> Iterator[str]:
    """Words of two letters and more, and pairs of neighbours."""
    words = _WORD.findall(text.lower())
    yield from words
    yield from (f"{first} {second}" for first, second in pairwise(words))


def character_features(text: str) -> Iterator[str]:
    """Runs of three to five characters within words that have a space on either side; a shorter word counts whole, once."""
    for word in _SPACES.sub(" ", text.lower()).split():
        padded = f" {word} "
        for size in range(CHARACTERS[0], CHARACTERS[1] + 1):
            yield padded[:size]
            yield from (padded[start : start + size] for start in range(1, len(padded) - size + 1))
            if len(padded) <= size:
                break


def _known(features: Iterator[str], places: Mapping[str, int]) -> Counter[int]:
    return Counter(places[feature] for feature in features if feature in places)


def write_linear(model: LinearText, folder: Path) -> None:
    """Writes the model; equal models give equal bytes."""
    described: dict[str, Any] = {"labels": list(model.labels), "words": _in_order(model.words), "characters": _in_order(model.characters)}
    described |= ({"width": model.width} if model.width else {}) | ({"alone": True} if model.alone else {})
    (folder / _DESCRIPTION).write_text(json.dumps(described, ensure_ascii=False), encoding="utf-8")
    for name, array in ((_IDF, model.idf_F), (_WEIGHTS, model.weights_KF), (_INTERCEPTS, model.intercepts_K)):
        np.save(folder / name, np.ascontiguousarray(array, dtype=np.float64), allow_pickle=False)
    if model.references_NW is not None:
        np.save(folder / _REFERENCES, np.ascontiguousarray(model.references_NW, dtype=np.float16), allow_pickle=False)


def read_linear(folder: Path) -> LinearText:
    """What ``write_linear`` wrote. Raises ModelInvalid."""
    try:
        told = json.loads((folder / _DESCRIPTION).read_text(encoding="utf-8"))
        idf_F, weights_KF, intercepts_K = (np.load(folder / name, allow_pickle=False) for name in (_IDF, _WEIGHTS, _INTERCEPTS))
        words = {feature: place for place, feature in enumerate(told["words"])}
        characters = {feature: place for place, feature in enumerate(told["characters"], start=len(words))}
        width, alone = int(told.get("width", 0)), bool(told.get("alone", False))
        if not (folder / _REFERENCES).is_file():
            references_NW: NDArray[np.float32] | None = None
        else:
            read_NW: NDArray[np.float32] = np.load(folder / _REFERENCES, allow_pickle=False).astype(np.float32)
            references_NW = read_NW
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelInvalid("the folder holds no floor that can be read", "restore the artifact, or adapt again") from error
    model = LinearText(tuple(told["labels"]), words, characters, idf_F, weights_KF, intercepts_K, width, alone, references_NW)
    _check(model, folder)
    return model


def _check(model: LinearText, folder: Path) -> None:
    features, count = len(model.words) + len(model.characters), len(model.labels)
    rows = count if count > 2 or model.alone else 1
    shapes = (model.weights_KF.shape, model.idf_F.shape, model.intercepts_K.shape)
    referred = model.references_NW is None or (model.references_NW.ndim, model.references_NW.shape[-1]) == (2, model.width)
    read = sum((folder / name).is_dir() for name in (ENCODER, ADAPTER))
    if not referred or shapes != ((rows, features + model.width), (features,), (rows,)) or read != bool(model.width):
        raise ModelInvalid("the parts of the floor do not fit together", "restore the artifact, or adapt again")


def _in_order(places: Mapping[str, int]) -> list[str]:
    return sorted(places, key=places.__getitem__)
