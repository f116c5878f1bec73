"""An encoder without a model: texts that share words have vectors that lie close.

In: texts. Out: vectors of hashed words; pairs scored by shared words. Must not know: tensors of a model.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tailorbird.foundations.bm25 import words
from tailorbird.ports.encoder import Vectors

_WIDTH = 64


class MemoryEncoder:
    """An ``Encoder`` for tests; folders are not looked into."""

    nbytes = 0

    def embed(self, folder: Path, texts: Sequence[str], tuned: Path | None = None) -> Vectors:
        """Counts of words in 64 hashed places, scaled to length 1."""
        del folder, tuned
        found = np.zeros((len(texts), _WIDTH), dtype=np.float32)
        for place, text in enumerate(texts):
            for word in words(text) or [""]:
                found[place, zlib.crc32(word.encode()) % _WIDTH] += 1
        normal: Vectors = found / np.linalg.norm(found, axis=1, keepdims=True)
        return normal

    def count_tokens(self, folder: Path, texts: Sequence[str]) -> int:
        """Words."""
        del folder
        return sum(len(text.split()) for text in texts)

    def relate(self, folder: Path, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """How many words a pair shares."""
        del folder
        return [float(len(set(words(question)) & set(words(text)))) for question, text in pairs]

    def forget(self, folder: Path) -> None:
        """There is nothing to forget."""
        del folder
