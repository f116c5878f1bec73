"""Groups that must stay in one split: rows with the same or nearly the same text, or of one subject."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from tailorbird.data.contamination import pairs_of
from tailorbird.data.duplicates.components import Tie
from tailorbird.data.duplicates.exact import Item, first_places
from tailorbird.data.duplicates.near_duplicates import Pair, SoFar, TextsAt
from tailorbird.data.duplicates.shared_text import SharedText
from tailorbird.data.duplicates.text_index import TextIndex
from tailorbird.data.duplicates.text_sketches import SketchedRows


class PairSearch(Protocol):
    """The search for near-duplicates among the texts of an index."""

    def begin(self, index: TextIndex, texts_at: TextsAt, meanwhile: Callable[[], None], /) -> None:
        """Lets others begin. ``meanwhile`` may be called, while they search."""
        ...

    def pairs(self, index: TextIndex, texts_at: TextsAt, meanwhile: SoFar, /) -> list[Pair]:
        """As ``pairs_within``. ``meanwhile`` may be called with most pairs, while others search."""
        ...


class Meanwhile(NamedTuple):
    """What can be done while others search: that which needs no ties, and that which needs most of them."""

    without_ties: Callable[[], None]
    with_ties: Callable[[list[Tie]], None]


def _between(same: Sequence[Tie], first: Sequence[int], *pairs: Sequence[Pair]) -> list[Tie]:
    return [*same, *((first[one], first[other]) for one, other in chain(*pairs))]


def text_ties(items: Sequence[Item], others: Sequence[str], sketches: SketchedRows, search: PairSearch, meanwhile: Meanwhile) -> list[Tie]:
    """Items whose texts are equal (with different targets, or but for what most rows share), nearly alike, or of which one holds most of
    the other.

    ``others`` are further normalised texts; they have the places after the items. ``sketches`` are those of rows, by the numbers of items.
    ``meanwhile`` may be done while others search.
    """
    compared = [*(item.told or item.folded for item in items), *others]
    first, again = first_places(compared)
    texts = [compared[place] for place in first] if again else compared
    indexed, runs = sketches.of(texts, _numbers(items, len(others))[first])

    def texts_at(places: list[int]) -> list[str]:
        return [texts[place] for place in places]

    search.begin(indexed, texts_at, meanwhile.without_ties)
    overlaps = pairs_of(runs, texts_at)
    same = [tuple(again[index]) for index in sorted(again)]
    near = search.pairs(indexed, texts_at, lambda near: meanwhile.with_ties(_between(same, first, near, overlaps)))
    return _between(same, first, near, overlaps)


def _numbers(items: Sequence[Item], others: int) -> NDArray[np.int64]:
    """The number of the row whose sketches are those of the text that is compared; -1 where there is none, and for each of ``others``."""
    told = (-1 if item.told else item.number for item in items)
    return np.concatenate([np.fromiter(told, np.int64, len(items)), np.full(others, -1, np.int64)])


def without_shared_text(items: Sequence[Item], shared: SharedText) -> list[Item]:
    """``items`` that know what tells each from others."""
    told = shared.told([item.row.text for item in items], [item.folded for item in items])
    return [item if text is item.folded else item._replace(told=text) for item, text in zip(items, told, strict=True)]


def subject_ties(items: Sequence[Item], alike: Iterable[Sequence[int]] = ()) -> list[Tie]:
    """Items of one subject. ``alike`` are the near-duplicate groups: what several subjects wrote nearly word for word (a form, a phrase of
    the trade) does not tie their other rows together."""
    owned = [index for index, item in enumerate(items) if item.subject is not None]
    if not owned:
        return []
    shared = {index for part in alike if len({items[index].subject for index in part} - {None}) > 1 for index in part}
    by_subject: dict[str | None, list[int]] = {}
    for index in owned:
        if index not in shared:
            by_subject.setdefault(items[index].subject, []).append(index)
    return [tuple(same) for same in by_subject.values() if len(same) > 1]
