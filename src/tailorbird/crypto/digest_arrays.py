"""Digests by the million, as arrays of bytes."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from tailorbird.domain.value import Digest

#: Of a digest as text.
_PREFIX, _LETTERS = b"sha256:", 71


def digests_of(ids: Iterable[Digest]) -> NDArray[np.uint8]:
    """Digests as bytes, uint8[N, 32]. Raises ValueError for what is none."""
    letters = np.frombuffer("".join(ids).encode(), dtype=np.uint8)
    if len(letters) % _LETTERS:
        raise ValueError("an id is no digest")
    each = letters.reshape(-1, _LETTERS)
    raw = bytes.fromhex(each[:, len(_PREFIX) :].tobytes().decode())
    if len(raw) != 32 * len(each) or (each[:, : len(_PREFIX)] != np.frombuffer(_PREFIX, dtype=np.uint8)).any():
        raise ValueError("an id is no digest")
    return np.frombuffer(raw, dtype=np.uint8).reshape(-1, 32)


def order_of(digests_ND: NDArray[np.uint8]) -> NDArray[np.intp]:
    """The order of digests (uint8[N, 32]): by their first eight bytes, and by the others where these are equal."""
    words_NW = np.ascontiguousarray(digests_ND).view(">u8").astype(np.uint64)
    order_N = np.argsort(words_NW[:, 0], kind="stable")
    first_N = words_NW[order_N, 0]
    if (first_N[1:] == first_N[:-1]).any():
        return np.lexsort([words_NW[:, word] for word in reversed(range(words_NW.shape[1]))])
    return order_N
