"""Likely label errors: rows whose words are nearer to another label's rows than to those of their own, ranked."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tailorbird.data.readers.sources import SourceRow
from tailorbird.domain.curation import LabelSuspect
from tailorbird.domain.dataset import Provenance, Row, Split
from tailorbird.domain.objective import Task, TaskKind
from tailorbird.domain.value import Digest
from tailorbird.text.words import normalise, paired_tokens

#: Rows that are looked at, those with the smallest ids, which are random; and of the suspects found so many are kept.
MOST_ROWS, MOST_SUSPECTS = 10_000, 1_000
#: Rows that a label needs at least.
LEAST = 5
#: Rows that are compared with all labels at a time.
_BLOCK = 1_000


class LabelSuspects(NamedTuple):
    """Suspects, likeliest first, and what was not looked at, or is not kept, and why."""

    ranked: tuple[LabelSuspect, ...]
    skipped: str = ""


class LabelledRow(NamedTuple):
    """A row of a snapshot that is being built; its provenance is created for the rows that are kept alone."""

    id: Digest
    text: str
    target: str
    split: Split
    source: SourceRow

    @property
    def provenance(self) -> Provenance:
        """Where the row comes from."""
        return self.source.provenance


def label_suspects(rows: Iterable[LabelledRow] | Sequence[Row], task: Task) -> LabelSuspects:
    """Rows of train and dev that are nearer to another label than to their own. ``rows`` are sorted by id. The same rows give the same
    suspects on every machine.

    Rows are TF-IDF vectors of length 1, labels the means of their rows (Rocchio 1971). The score of a row is how much more alike it is to
    the suggested label than to the given one (cosines), from which it was left out.
    """
    if task.kind is not TaskKind.CLASSIFY or task.labels == "many":
        return LabelSuspects((), "only rows with one label each can be ranked")
    usable = list(islice((row for row in rows if row.split is not Split.TEST), MOST_ROWS + 1))
    notes = [f"only the {MOST_ROWS:,} rows with the smallest ids were looked at"] if len(usable) > MOST_ROWS else []
    counts = Counter(row.target for row in usable[:MOST_ROWS])
    ranked_rows = [row for row in usable[:MOST_ROWS] if counts[row.target] >= LEAST]
    labels = sorted({row.target for row in ranked_rows})
    if len(labels) < 2:
        return LabelSuspects((), f"fewer than two labels have {LEAST} rows each")
    given = np.array(list(map({label: place for place, label in enumerate(labels)}.__getitem__, (row.target for row in ranked_rows))))
    nearest, margins = _compared(_vectors(row.text for row in ranked_rows), given, len(labels))
    suspects = sorted((-margin, row.id, place) for place, (row, margin) in enumerate(zip(ranked_rows, margins, strict=True)) if margin > 0)
    if len(suspects) > MOST_SUSPECTS:
        notes.append(f"of {len(suspects):,} suspects the {MOST_SUSPECTS:,} likeliest are kept")
    kept = tuple(_suspect(ranked_rows[place], labels[nearest[place]], -score) for score, _, place in suspects[:MOST_SUSPECTS])
    return LabelSuspects(kept, "; ".join(notes))


def _vectors(texts: Iterable[str]) -> Any:
    """TF-IDF with logarithmic counts, a row of length 1 for each text (0 where it has no word); sparse."""
    from scipy import sparse

    places = defaultdict[str, int]()
    places.default_factory = places.__len__
    columns, ends = array("i"), [0]
    for text in texts:
        columns.extend(map(places.__getitem__, paired_tokens(normalise(text))))
        ends.append(len(columns))
    size = len(ends) - 1
    vectors = sparse.csr_matrix((np.ones(len(columns)), np.array(columns, dtype=np.int32), ends), shape=(size, max(1, len(places))))
    vectors.sum_duplicates()
    idf_V = np.log((1 + size) / (1 + np.bincount(vectors.indices, minlength=vectors.shape[1]))) + 1
    vectors.data = (1 + np.log(vectors.data)) * idf_V[vectors.indices]
    row_E = np.repeat(np.arange(size), np.diff(vectors.indptr))
    vectors.data /= np.sqrt(np.bincount(row_E, weights=vectors.data**2, minlength=size))[row_E]
    return vectors


def _compared(vectors_NV: Any, given_N: NDArray[np.intp], labels: int) -> tuple[list[int], list[float]]:
    """For each row the nearest other label, and by how much it is nearer than the given one."""
    from scipy import sparse

    size = len(given_N)
    members_KN = sparse.csr_matrix((np.ones(size), (given_N, np.arange(size))), shape=(labels, size))
    sums_KV = (members_KN @ vectors_NV).tocsr()
    sums_VK = sums_KV.T.tocsr()
    square_K = np.bincount(np.repeat(np.arange(labels), np.diff(sums_KV.indptr)), weights=sums_KV.data**2, minlength=labels)
    nearest, margins = list[int](), list[float]()
    for start in range(0, size, _BLOCK):
        given_B = given_N[start : start + _BLOCK]
        block = np.arange(len(given_B))
        dots_BK = (vectors_NV[start : start + _BLOCK] @ sums_VK).toarray()
        own_B = dots_BK[block, given_B]
        # Without the row itself, whose length is 1: the sum's product with it falls by 1, its square by twice the product, less 1.
        self_B = (np.diff(vectors_NV.indptr)[start : start + _BLOCK] > 0).astype(np.float64)  # a text without words is no vector
        left_B = (own_B - self_B) / np.sqrt(np.maximum(square_K[given_B] - 2 * own_B + self_B, 1e-9))
        alike_BK = dots_BK / np.sqrt(np.maximum(square_K, 1e-9))
        alike_BK[block, given_B] = -1.0
        top_B = alike_BK.argmax(axis=1)
        nearest += top_B.tolist()
        margins += np.round(np.clip(alike_BK[block, top_B] - left_B, -1, 1), 4).tolist()
    return nearest, margins


def _suspect(row: LabelledRow | Row, suggested: str, margin: float) -> LabelSuspect:
    place = row.provenance
    return LabelSuspect(row=row.id, file=place.file, line=place.line, given=row.target, suggested=suggested, score=margin)
