"""Evaluation sets of the tenant's own: no row like one of their texts is learned from.

In: the sets that an objective names; items and the ties of all texts. Out: items to go on with, and those set aside. Must not know: how
texts are compared, what the sets are for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tailorbird.data.curating.counting import Tally
from tailorbird.data.duplicates.exact import Item, quarantine
from tailorbird.data.duplicates.ties import Tie, components
from tailorbird.data.reading import read_texts
from tailorbird.domain.objective import Objective


@dataclass(frozen=True)
class Protected:
    """Distinct normalised texts, and for each the path of the set that it is of."""

    texts: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()


def protected_texts(objective: Objective, folder: Path) -> Protected:
    """The texts of all protected sets. Raises DataInvalid or Unavailable as reading does."""
    found: dict[str, str] = {}
    for one in objective.curation.protected:
        for text in read_texts(one, folder):
            found.setdefault(text, one.path)
    return Protected(tuple(found), tuple(found.values()))


def set_apart(items: Sequence[Item], protected: Protected, ties: Sequence[Tie], tally: Tally) -> tuple[list[int], Counter[str]]:
    """Places of the items that no tie connects to a protected text; and how many rows were set aside for each set.

    ``ties`` are of the items' texts followed by the protected ones.
    """
    if not protected.texts:
        return list(range(len(items))), Counter()
    size = len(items)
    touched: dict[int, str] = {}
    for part in components(range(size + len(protected.texts)), ties):
        sets = [protected.sets[place - size] for place in part if place >= size]
        if sets:
            touched |= dict.fromkeys((place for place in part if place < size), min(sets))
    gone = [
        quarantine(items[place].row, "contaminates_protected", f"the row, or one nearly like it, is in the protected set {name}")
        for place, name in sorted(touched.items())
    ]
    tally.step("protected sets", size, gone)
    tally.quarantined += gone
    return [place for place in range(size) if place not in touched], Counter(touched.values())
