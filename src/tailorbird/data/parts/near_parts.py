"""Near-duplicates in parts: the index and the texts for others, and the pairs of some bands."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tailorbird.data.duplicates.near_duplicates import NearSearch, Pair, Pairs, SoFar, TextsAt, pairs_within
from tailorbird.data.duplicates.text_index import TextIndex
from tailorbird.data.parts.given_parts import GivenParts, TextBlob, packed, unpacked
from tailorbird.domain.errors import TailorbirdError

#: The name of the part that holds the texts and their index; of those that say that all rows are read, and that all bands are searched:
#: who helps further takes cache and memory from who builds.
TEXTS, READ, SEARCHED = "texts", "read", "searched"


def part_name(bands: range) -> str:
    """As it stands in the record."""
    return f"bands {bands.start}-{bands.stop}"


class SharedSearch(NamedTuple):
    """The search among texts of which others may search some bands. ``head`` says of which build it is."""

    given: GivenParts
    head: Mapping[str, Any]
    helped: bool

    def coming(self) -> SharedSearch:
        """Tells who helps that all rows are read."""
        if self.helped:
            self._tell(READ, {})
        return self

    def begin(self, index: TextIndex, texts_at: TextsAt, meanwhile: Callable[[], None]) -> None:
        """Where somebody helps, they are given the texts, and ``meanwhile`` is called: the first pairs that they find are not compared by
        who builds."""
        if self.helped:
            self._give(index, texts_at)
            meanwhile()

    def pairs(self, index: TextIndex, texts_at: TextsAt, meanwhile: SoFar) -> list[Pair]:
        """As ``pairs_within``. ``meanwhile`` may be called where somebody helps: who builds searches less then. Who helps is told when
        nothing is left to be searched."""
        if not self.helped:
            return pairs_within(index, texts_at)
        asked = set[range]()
        found = pairs_within(index, texts_at, lambda some: self._found(index, some, asked), meanwhile)
        self._tell(SEARCHED, {})
        return found

    def _give(self, index: TextIndex, texts_at: TextsAt) -> None:
        arrays: dict[str, NDArray[Any]] = {"signatures": index.signatures_PN, "lengths": index.lengths_N, "histograms": index.histograms_NB}
        self._tell(TEXTS, arrays | TextBlob.arrays("text", texts_at([*range(index.size)])))

    def _tell(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Gives those who help what they need. Where it cannot be stored, who builds does without help."""
        with suppress(TailorbirdError):
            self.given.put(name, packed(self.head, {}, arrays))

    def _found(self, index: TextIndex, some: Sequence[range], asked: set[range]) -> Iterator[tuple[range, Pairs]]:
        """What others have found, by one look at which parts are done. Those that were ``asked`` for before could not be used."""
        known: Collection[str] = ()
        with suppress(TailorbirdError):
            known = self.given.known
        for bands in some:
            if bands not in asked and part_name(bands) in known:
                asked.add(bands)
                if (pairs := self._read(index, bands)) is not None:
                    yield bands, pairs

    def _read(self, index: TextIndex, bands: range) -> Pairs | None:
        """What cannot be read is as if it were not there."""
        data = self.given.get(part_name(bands))
        try:
            return pairs_read(data, self.head, index.size) if data is not None else None
        except (ValueError, KeyError, TypeError):
            return None


def pairs_read(data: bytes, head: Mapping[str, Any], size: int) -> Pairs:
    """The pairs that ``data`` holds. Raises ValueError, KeyError where they are of other texts."""
    pairs = unpacked(data, head)[1]["pairs"]
    if pairs.dtype != np.int32 or pairs.ndim != 2 or pairs.shape[1] != 2 or (pairs < 0).any() or (pairs >= size).any():
        raise ValueError("the pairs are of other texts")
    return pairs


def pairs_packed(pairs: Pairs, head: Mapping[str, Any]) -> bytes:
    """The bytes of the pairs of some bands."""
    return packed(head, {}, {"pairs": pairs})


def search_given(data: bytes, head: Mapping[str, Any]) -> NearSearch:
    """The search among the texts that somebody gave. Raises ValueError, KeyError where they are of another build."""
    arrays = unpacked(data, head)[1]
    texts = TextBlob.read("text", arrays).all()  # a text is compared many times
    index = TextIndex(arrays["signatures"].copy(), arrays["lengths"].copy(), arrays["histograms"].copy())
    if not index.size == index.signatures_PN.shape[1] == len(index.histograms_NB) == len(texts):
        raise ValueError("the index is of other texts")
    return NearSearch(index, lambda places: [texts[place] for place in places])
