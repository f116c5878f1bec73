"""What turns texts into vectors, and pairs of texts into scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tailorbird.domain.base_model import Purpose

#: Vectors of texts: (texts, width).
Vectors = NDArray[np.float32]


class Encoder(Protocol):
    """Runs encoders in this process. ``folder`` holds the model, ``tuned`` an adapter or weights that stand in its place."""

    @property
    def nbytes(self) -> int:
        """Memory of what was read and not forgotten."""
        ...

    def embed(self, folder: Path, texts: Sequence[str], tuned: Path | None = None, purpose: Purpose = "text") -> Vectors:
        """A vector a text, which is read behind the encoder's prefix for that purpose; texts beyond the model's context are cut. Vectors of
        queries and passages are of length 1 unless the encoder compares products. Raises ModelInvalid."""
        ...

    def count_tokens(self, folder: Path, texts: Sequence[str], purpose: Purpose = "text") -> int:
        """Tokens of all texts that ``embed`` reads. Raises ModelInvalid."""
        ...

    def relate(self, folder: Path, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """How well the second text of each pair answers the first, by a cross-encoder: any number, more is better. Raises ModelInvalid."""
        ...

    def forget(self, folder: Path) -> None:
        """Gives back the memory of what was read from ``folder``; it is read again when it is asked for. Unknown folders are ignored."""
        ...
