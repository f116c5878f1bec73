"""Text index for near-duplicate search: signatures, lengths and character histograms, without the texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailorbird.data.duplicates.edit_similarity import histograms
from tailorbird.data.duplicates.minhash import Signatures, sign


@dataclass(frozen=True)
class TextIndex:
    """Signatures, lengths in characters, and how often letters stand in each of N texts."""

    signatures_PN: Signatures
    lengths_N: NDArray[np.int32]
    histograms_NB: NDArray[np.uint8]

    @property
    def size(self) -> int:
        """How many texts."""
        return len(self.lengths_N)


def index_texts(texts: Sequence[str]) -> TextIndex:
    """The index of ``texts``, each with a character that is no space."""
    return TextIndex(sign(texts), np.fromiter(map(len, texts), np.int32, len(texts)), histograms(texts))
