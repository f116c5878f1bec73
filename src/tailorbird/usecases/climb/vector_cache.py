"""Vectors of many texts, made some at a time and kept until the step is done: after a kill only the lot in hand is made again.

A lot is a file named after the encoder's content and the texts; no word of a text lies in it. ``forget`` removes them all.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.value import Digest
from tailorbird.ports.encoder import Encoder, Vectors
from tailorbird.usecases.dependencies import Progress

#: Texts a lot: some seconds on a core.
_LOT = 256


@dataclass(frozen=True)
class VectorCache:
    """Embeds by the encoder ``digest``, which lies in ``model``, and keeps what it made in ``folder``."""

    encoder: Encoder
    digest: Digest
    model: Path
    folder: Path
    progress: Progress

    def of(self, texts: Sequence[str]) -> Vectors:
        """(texts, width). Where there are several lots each is kept, and it is told how far it is."""
        lots = [tuple(texts[start : start + _LOT]) for start in range(0, len(texts), _LOT)]
        found: list[Vectors] = []
        for place, lot in enumerate(lots):
            found.append(self._lot(lot) if len(lots) > 1 else self.encoder.embed(self.model, lot))
            if len(lots) > 1:
                self.progress.count(min((place + 1) * _LOT, len(texts)), len(texts))
        return np.concatenate(found) if found else self.encoder.embed(self.model, ())

    def forget(self) -> None:
        """Removes what was kept, and gives back the encoder's memory."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.encoder.forget(self.model)

    def _lot(self, texts: tuple[str, ...]) -> Vectors:
        path = self.folder / f"{digest_of({'encoder': self.digest, 'texts': texts}).removeprefix('sha256:')}.npy"
        if (kept := _read(path, len(texts))) is not None:
            return kept
        made = self.encoder.embed(self.model, texts)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}.tmp")
        with unfinished.open("wb") as file:
            np.save(file, made, allow_pickle=False)
        unfinished.replace(path)
        return made


def _read(path: Path, count: int) -> Vectors | None:
    """What was kept of a lot; None where there is nothing, or where it is damaged: it is made again."""
    try:
        kept: Vectors = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return kept if kept.ndim == 2 and len(kept) == count and kept.dtype == np.float32 and bool(np.isfinite(kept).all()) else None
