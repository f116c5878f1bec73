"""Learned prototypes of labels, as a file beside the encoder that was tuned with them: log-odds of each label, linear in a text's vector.

label_prototypes.npy    (labels, width + 1): weights of a vector of length 1, and last an intercept, in the order of the task's labels
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tailorbird.domain.errors import ModelInvalid

#: Name of the file.
PROTOTYPES = "label_prototypes.npy"


@dataclass(frozen=True)
class LabelPrototypes:
    """Weights (labels, width) and intercepts (labels,) of log-odds in nats."""

    weights_KH: NDArray[np.float64]
    intercepts_K: NDArray[np.float64]

    def log_odds(self, vectors_NH: NDArray[np.float32]) -> NDArray[np.float64]:
        """(texts, labels), in nats, of texts whose vectors have length 1."""
        found: NDArray[np.float64] = vectors_NH.astype(np.float64) @ self.weights_KH.T + self.intercepts_K
        return found


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


def _invalid(message: str) -> ModelInvalid:
    return ModelInvalid(message, "restore the artifact, or adapt again", code="prototypes")
