"""Learned prototypes of labels, as files beside the encoder that was tuned with them: log-odds of each label, linear in a text's vector.

label_prototypes.npy    (labels, width + 1): weights of a vector of length 1, and last an intercept, in the order of the task's labels
left_out.npy            (rows, labels), where an item bears one label: log-probabilities in nats of training rows by the encoder that had
                        not learned them; NaN: none lacks the row
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tailorbird.domain.errors import ModelInvalid
from tailorbird.text.linear_classifier import LinearText

#: Names of the files.
PROTOTYPES, LEFT_OUT = "label_prototypes.npy", "left_out.npy"


@dataclass(frozen=True)
class LabelPrototypes:
    """Weights (labels, width) and intercepts (labels,) of log-odds in nats."""

    weights_KH: NDArray[np.float64]
    intercepts_K: NDArray[np.float64]

    def log_odds(self, vectors_NH: NDArray[np.float32]) -> NDArray[np.float64]:
        """(texts, labels), in nats, of texts whose vectors have length 1."""
        found: NDArray[np.float64] = vectors_NH.astype(np.float64) @ self.weights_KH.T + self.intercepts_K
        return found

    def classifier(self, labels: Sequence[str], factor: float) -> LinearText:
        """What answers one of ``labels``, those of the prototypes: log-odds times ``factor``, of vectors alone."""
        weights_KF, intercepts_K = factor * self.weights_KH, factor * self.intercepts_K
        if len(labels) == 2:
            weights_KF, intercepts_K = weights_KF[1:] - weights_KF[:1], intercepts_K[1:] - intercepts_K[:1]
        return LinearText(tuple(labels), {}, {}, np.zeros(0), weights_KF, intercepts_K, width=self.weights_KH.shape[1])


def write_prototypes(prototypes: LabelPrototypes, folder: Path) -> None:
    """Writes the file into ``folder``; equal prototypes give equal bytes."""
    whole = np.concatenate([prototypes.weights_KH, prototypes.intercepts_K[:, None]], axis=1)
    np.save(folder / PROTOTYPES, np.ascontiguousarray(whole, dtype=np.float32), allow_pickle=False)


def read_prototypes(folder: Path, labels: int) -> LabelPrototypes:
    """What ``write_prototypes`` wrote, of so many ``labels``. Raises ModelInvalid (``prototypes``)."""
    try:
        whole = np.load(folder / PROTOTYPES, allow_pickle=False).astype(np.float64)
    except (OSError, ValueError) as error:
        raise _invalid("the tuned encoder holds no prototypes of labels that can be read") from error
    if whole.ndim != 2 or whole.shape[0] != labels or whole.shape[1] < 2 or not np.isfinite(whole).all():
        raise _invalid("the prototypes of the tuned encoder do not fit the labels of the task")
    return LabelPrototypes(whole[:, :-1], whole[:, -1])


def write_left_out(nats_NK: NDArray[np.float32], folder: Path) -> None:
    """Writes what encoders said of training rows that they had not learned."""
    np.save(folder / LEFT_OUT, np.ascontiguousarray(nats_NK, dtype=np.float32), allow_pickle=False)


def read_left_out(folder: Path, rows: int, labels: int) -> NDArray[np.float64]:
    """What ``write_left_out`` wrote (rows, labels). Raises ModelInvalid (``prototypes``)."""
    try:
        found: NDArray[np.float64] = np.load(folder / LEFT_OUT, allow_pickle=False).astype(np.float64)
    except (OSError, ValueError) as error:
        raise _invalid("the tuned encoder does not tell how sure it is") from error
    if found.shape != (rows, labels):
        raise _invalid("what the tuned encoder tells of training rows does not fit them")
    return found


def _invalid(message: str) -> ModelInvalid:
    return ModelInvalid(message, "restore the artifact, or adapt again", code="prototypes")
