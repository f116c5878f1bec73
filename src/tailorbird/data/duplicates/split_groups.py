"""Groups that must stay in one split: rows with the same or nearly the same text, or of one subject."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

from tailorbird.data.contamination import overlapping
from tailorbird.data.duplicates.components import Tie
from tailorbird.data.duplicates.exact import Item, first_places
from tailorbird.data.duplicates.near_duplicates import near_duplicates
from tailorbird.data.duplicates.shared_text import SharedText


def text_ties(items: Sequence[Item], others: Sequence[str]) -> list[Tie]:
    """Items whose texts are equal (with different targets, or but for what most rows share), nearly alike, or of which one holds most of
    the other.

    ``others`` are further normalised texts; they have the places after the items.
    """
    compared = [*(item.told or item.folded for item in items), *others]
    first, again = first_places(compared)
    texts = [compared[place] for place in first] if again else compared
    pairs = chain(near_duplicates(texts), overlapping(texts))
    return [*(tuple(again[index]) for index in sorted(again)), *((first[one], first[other]) for one, other in pairs)]


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
