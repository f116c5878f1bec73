"""Sketches of texts (signatures, letters, word runs), made part by part and put together for the texts that are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tailorbird.data.contamination import TextRuns, WordRuns, ranges, text_runs
from tailorbird.data.duplicates.edit_similarity import BINS
from tailorbird.data.duplicates.minhash import PLACES
from tailorbird.data.duplicates.text_index import TextIndex, index_texts


@dataclass(frozen=True)
class TextSketches:
    """What N texts are compared by, one after the other."""

    index: TextIndex
    runs: TextRuns


def sketched(texts: Sequence[str]) -> TextSketches:
    """The sketches of ``texts``, each with a character that is no space."""
    return TextSketches(index_texts(texts), text_runs(texts))


@dataclass
class SketchedRows:
    """Sketches of the texts of rows, by the number of the row, as far as they were made."""

    parts: list[tuple[int, TextSketches]] = field(default_factory=list)

    def add(self, start: int, sketches: TextSketches) -> None:
        """Those of the rows from number ``start`` on, which come after all that are there."""
        self.parts.append((start, sketches))

    def of(self, texts: Sequence[str], numbers_T: NDArray[np.int64]) -> tuple[TextIndex, WordRuns]:
        """The index and the runs of ``texts``: sketches of the row with the number in ``numbers_T``, where there are some; else (also for
        number -1) they are made. What was there is used up."""
        size = len(texts)
        index = TextIndex(np.empty((PLACES, size), np.uint16), np.empty(size, np.int32), np.empty((size, BINS), np.uint8))
        made, left_T = list[tuple[NDArray[np.intp], TextRuns]](), np.ones(size, np.bool_)
        while self.parts:
            start, sketches = self.parts.pop()
            local_T = numbers_T - start
            places = np.flatnonzero((local_T >= 0) & (local_T < sketches.index.size))
            made.append((places, _put(index, places, sketches, local_T[places])))
            left_T[places] = False
        if left_T.any():
            places = np.flatnonzero(left_T)
            made.append((places, _put(index, places, sketched([texts[place] for place in places.tolist()]), np.arange(len(places)))))
        return index, _together(made, size).by_run


def _put(index: TextIndex, places: NDArray[np.intp], sketches: TextSketches, local: NDArray[np.intp]) -> TextRuns:
    """Puts sketches of the texts ``local`` into ``index`` at ``places``; their runs."""
    index.signatures_PN[:, places] = sketches.index.signatures_PN[:, local]
    index.lengths_N[places] = sketches.index.lengths_N[local]
    index.histograms_NB[places] = sketches.index.histograms_NB[local]
    counts_N = sketches.runs.counts_N[local]
    begins_N = (np.cumsum(sketches.runs.counts_N) - sketches.runs.counts_N)[local]
    return TextRuns(sketches.runs.runs_R[ranges(begins_N, begins_N + counts_N)], counts_N)


def _together(made: Sequence[tuple[NDArray[np.intp], TextRuns]], size: int) -> TextRuns:
    """Runs of texts at their places."""
    counts_N = np.zeros(size, np.int32)
    for places, runs in made:
        counts_N[places] = runs.counts_N
    begins_N = np.cumsum(counts_N, dtype=np.int64) - counts_N
    runs_R = np.empty(int(counts_N.sum(dtype=np.int64)), np.uint64)
    for places, runs in made:
        runs_R[ranges(begins_N[places], begins_N[places] + runs.counts_N)] = runs.runs_R
    return TextRuns(runs_R, counts_N)
