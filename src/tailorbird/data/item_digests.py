"""Digests of items by the million: of what they are, and of the texts by which they are compared."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from tailorbird.crypto.digest_arrays import digests_of
from tailorbird.data.duplicates.exact import Item

_NUMBER = itemgetter(Item._fields.index("number"))


class ItemDigests:
    """The digests of items, made now or before, while others searched for near-duplicates."""

    def __init__(self) -> None:
        self._ids_ND: NDArray[np.uint8] | None = None
        self._told_ND: NDArray[np.uint8] | None = None

    def make(self, items: Sequence[Item]) -> None:
        """Makes those of ``items``, which may be asked for later, and no others."""
        numbers_N = numbers_of(items)
        size = int(numbers_N.max(initial=-1)) + 1
        self._ids_ND, self._told_ND = np.zeros((size, 32), np.uint8), np.zeros((size, 16), np.uint8)
        self._ids_ND[numbers_N] = item_digests(items)
        self._told_ND[numbers_N] = told_digests([item.compared for item in items])

    def ids(self, items: Sequence[Item]) -> NDArray[np.uint8]:
        """``item_digests`` of ``items``."""
        return item_digests(items) if self._ids_ND is None else self._ids_ND.take(numbers_of(items), axis=0)

    def told(self, items: Sequence[Item]) -> NDArray[np.uint8]:
        """``told_digests`` of what ``items`` are compared by."""
        return told_digests([item.compared for item in items]) if self._told_ND is None else self._told_ND.take(numbers_of(items), axis=0)


def item_digests(items: Sequence[Item]) -> NDArray[np.uint8]:
    """The ids of items, uint8[N, 32]."""
    return digests_of(item.id for item in items)


def told_digests(texts: Sequence[str]) -> NDArray[np.uint8]:
    """Sixteen bytes for each text as it is compared, uint8[T, 16]."""
    hashed = b"".join(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest() for text in texts)
    return np.frombuffer(hashed, dtype=np.uint8).reshape(-1, 16)


def numbers_of(items: Sequence[Item]) -> NDArray[np.intp]:
    """The number of each item."""
    return np.fromiter(map(_NUMBER, items), np.intp, len(items))
