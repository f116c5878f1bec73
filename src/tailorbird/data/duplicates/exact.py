"""Exact duplicates: rows with the same normalised text and target, kept once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import NamedTuple

import numpy as np

from tailorbird.data.readers.sources import SourceRow, id_of
from tailorbird.domain.dataset import Quarantined, Split
from tailorbird.domain.value import Digest
from tailorbird.text.words import normalise

#: The more a split must be protected, the higher: a row of test is worth more than its copy in train.
PROTECTION = {Split.TEST: 3, Split.DEV: 2, Split.TRAIN: 1, None: 0}


class Item(NamedTuple):
    """A distinct row: ``folded`` is its normalised text, ``id`` the digest of that and the target, ``told`` what tells it from others
    (``duplicates/shared_text``), where that is less than the whole.

    ``known`` is the split that it was given in an earlier snapshot, ``group`` its
    group there. ``subject`` is the person that all copies belong to, if there is one: what several people wrote word for word must not tie
    their other rows together. A million are made, which takes half as long as those of a data class.
    """

    id: Digest
    folded: str
    row: SourceRow
    subject: str | None = None
    known: Split | None = None
    group: str = ""
    told: str = ""

    @property
    def compared(self) -> str:
        """The text that is compared with those of other rows."""
        return self.told or self.folded


@dataclass(frozen=True)
class Distinct:
    """Items in the order of their first copy; ``duplicates`` counts the copies left out."""

    items: tuple[Item, ...]
    duplicates: int
    quarantined: tuple[Quarantined, ...]


class NamedRows(NamedTuple):
    """Rows, with the normalised text and the id of each."""

    rows: Sequence[SourceRow]
    folded: Sequence[str]
    ids: Sequence[Digest]

    @classmethod
    def of(cls, rows: Sequence[SourceRow]) -> NamedRows:
        """From rows alone."""
        folded = [normalise(row.text) for row in rows]
        ids = [id_of(text, row.target) for text, row in zip(folded, rows, strict=True)]
        return cls(rows, folded, ids)


def drop_duplicates(named: NamedRows, known: Mapping[Digest, tuple[str, str]]) -> Distinct:
    """Keeps one row of all that have the same normalised text and target: the first of those in the most protected split.

    A copy in another split than the kept one is quarantined rather than counted as a duplicate: it would have been a leak. So is a copy
    that its source now fixes to another split than an earlier snapshot gave to the row.
    """
    places, again = first_places(named.ids)
    first = [*_items(named, places, known)]
    doubtful = {number for number, item in enumerate(first) if not _agrees(item)} if known else set()
    doubtful.update(np.searchsorted(places, sorted(again)).tolist())
    kept: list[Item | None] = [*first]
    duplicates = 0
    quarantined: list[Quarantined] = []
    for number in sorted(doubtful):
        kept[number] = None
        items = [first[number], *_items(named, again.get(places[number], [])[1:], known)]
        agreeing = [item for item in items if _agrees(item)]
        quarantined += [moved(item) for item in items if not _agrees(item)]
        if agreeing:
            best = max(agreeing, key=lambda item: PROTECTION[item.row.fixed])
            leaks = [item for item in agreeing if leaks_into(best.row.fixed, item.row.fixed)]
            quarantined += [contaminant(item.row, best.row.fixed) for item in leaks]
            duplicates += len(agreeing) - len(leaks) - 1
            kept[number] = best._replace(subject=_common_subject(items))
    return Distinct(tuple(filter(None, kept)), duplicates, tuple(quarantined))


def first_places(keys: Sequence[str]) -> tuple[list[int], dict[int, list[int]]]:
    """The place of each key where it stands first, ascending; and by this place all those of a key that stands several times. No step of
    Python's is taken for a key that stands once."""
    size = len(keys)
    first = dict(zip(reversed(keys), range(size - 1, -1, -1), strict=True))
    if len(first) == size:
        return [*range(size)], {}
    first_N = np.fromiter(map(first.__getitem__, keys), np.intp, size)
    later_N = np.flatnonzero(first_N != np.arange(size))
    again: dict[int, list[int]] = {}
    for place, earlier in zip(later_N.tolist(), first_N[later_N].tolist(), strict=True):
        again.setdefault(earlier, [earlier]).append(place)
    return np.flatnonzero(first_N == np.arange(size)).tolist(), again


def _agrees(item: Item) -> bool:
    """False where its source is fixed to another split than the one where it is."""
    return item.known is None or item.row.fixed in (None, item.known)


def _common_subject(copies: Sequence[Item]) -> str | None:
    subjects = {copy.row.subject for copy in copies}
    return subjects.pop() if len(subjects) == 1 else None


def leaks_into(protected: Split | None, other: Split | None) -> bool:
    """True when a row fixed to ``other`` must not repeat one in ``protected``, which is dev or test."""
    return protected in (Split.DEV, Split.TEST) and other is not protected


def contaminant(row: SourceRow, split: Split | None) -> Quarantined:
    """Sets aside a row that repeats, or nearly repeats, one of a protected split."""
    assert split is not None
    reason = f"the row, or one nearly like it or of the same subject, is in {split.value}"
    return quarantine(row, f"contaminates_{split.value}", reason)


def quarantine(row: SourceRow, code: str, reason: str) -> Quarantined:
    """Sets ``row`` aside."""
    return Quarantined(file=row.place.file, line=row.line, code=code, reason=reason)


def moved(item: Item) -> Quarantined:
    """Sets aside a row whose source is fixed to another split than the one where it is."""
    assert item.known is not None
    assert item.row.fixed is not None
    reason = f"an earlier snapshot gave the row to {item.known.value}, where it stays; its source is now fixed to {item.row.fixed.value}"
    return quarantine(item.row, "already_split", reason)


def _items(named: NamedRows, places: Sequence[int], known: Mapping[Digest, tuple[str, str]]) -> Iterator[Item]:
    """The items of the rows at ``places``. A million are made, by what makes a tuple without a call of Python's for each."""
    ids, rows = [named.ids[place] for place in places], [named.rows[place] for place in places]
    folded = [named.folded[place] for place in places]
    splits: Iterable[Split | None] = repeat(None)
    groups: Iterable[str] = repeat("")
    if known:
        given = [known.get(id_, ("", "")) for id_ in ids]
        splits, groups = [Split(split) if split else None for split, _ in given], [group for _, group in given]
    columns = zip(ids, folded, rows, [row.subject for row in rows], splits, groups, repeat(""), strict=False)
    return map(partial(tuple.__new__, Item), columns)
