"""How parts of a build come from others, and go to them: bytes by the name of the part."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tailorbird.crypto.canonical_json import canonical_json

#: The version of the bytes of all parts.
VERSION = "4"
#: Arrays begin at multiples of so many bytes.
_ALIGNED = 64


class GivenParts(Protocol):
    """Parts of one build that somebody has done, whoever it is. What they hold may be of another build: its head says of which."""

    @property
    def wanted(self) -> bool:
        """False once the build has ended."""
        ...

    @property
    def is_held(self) -> bool:
        """True while somebody is at the build; False, too, where that process is gone and no other has begun anew."""
        ...

    @property
    def known(self) -> Collection[str]:
        """The names of parts that are done."""
        ...

    def get(self, name: str, /) -> bytes | None:
        """The part called ``name``; None where nobody has done it, or it cannot be read."""
        ...

    def put(self, name: str, data: bytes, /) -> bool:
        """Gives a part to the others. False where it is wanted no more, or there already. Raises what storing raises."""
        ...


class NoParts:
    """Nobody helps. Implements ``GivenParts``."""

    wanted = is_held = False
    known: Collection[str] = ()

    def get(self, _name: str) -> None:
        """Nothing is there."""

    def put(self, _name: str, _data: bytes) -> bool:
        """Nobody wants it."""
        return False


def packed(head: Mapping[str, Any], facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The bytes of a part: a line each with what it is of, what it holds, and of which kind and shape its arrays are; then these, one after
    the other. Who stores them sees to it that they come back as they are."""
    shapes = {name: [array.dtype.str, *array.shape] for name, array in arrays.items()}
    told = [canonical_json({"version": VERSION, **head}), json.dumps(facts).encode(), json.dumps(shapes).encode(), b""]
    pieces: list[bytes | memoryview[int]] = [b"\n".join(told)]
    for array in arrays.values():
        pieces += [bytes(-len(pieces[-1]) % _ALIGNED), np.ascontiguousarray(array).data.cast("B") if array.size else b""]
    return b"".join(pieces)


def unpacked(data: bytes, head: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Facts and arrays of a part; these keep all of ``data``, so that who keeps one copies it. Raises ValueError where it is of something
    else than ``head`` says, or damaged."""
    expected = canonical_json({"version": VERSION, **head})
    if not data.startswith(expected + b"\n"):
        raise ValueError("the part is of another build")
    try:
        facts_end = data.index(b"\n", len(expected) + 1)
        at = data.index(b"\n", facts_end + 1) + 1
        told: dict[str, Any] = json.loads(data[len(expected) + 1 : facts_end])
        arrays, length = dict[str, NDArray[Any]](), at
        for name, (kind, *shape) in json.loads(data[facts_end + 1 : at]).items():
            at += -length % _ALIGNED
            dtype, count = np.dtype(kind), math.prod(shape)
            arrays[name] = np.frombuffer(data, dtype, count, at).reshape(shape) if count else np.empty(shape, dtype)
            length = dtype.itemsize * count
            at += length
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError("no part") from error
    return told, arrays


class TextBlob:
    """Texts one after the other, each made when it is asked for."""

    def __init__(self, text: str, lengths_N: NDArray[np.int32]) -> None:
        """Raises ValueError where the lengths are of another text."""
        ends_N = np.cumsum(lengths_N, dtype=np.int64)
        if len(text) != (int(ends_N[-1]) if len(ends_N) else 0):
            raise ValueError("the texts are others")
        self._text, self._ends = text, [0, *ends_N.tolist()]

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, place: int) -> str:
        return self._text[self._ends[place] : self._ends[place + 1]]

    def all(self) -> list[str]:
        """All texts."""
        return [self[place] for place in range(len(self))]

    @staticmethod
    def arrays(name: str, texts: list[str]) -> dict[str, NDArray[Any]]:
        """What ``read`` makes the texts of."""
        blob = np.frombuffer("".join(texts).encode("utf-8", "surrogatepass"), dtype=np.uint8)
        return {name: blob, f"{name}_lengths": np.fromiter(map(len, texts), np.int32, len(texts))}

    @classmethod
    def read(cls, name: str, arrays: Mapping[str, NDArray[Any]]) -> TextBlob:
        """Raises ValueError, KeyError where the arrays are no texts."""
        return cls(arrays[name].tobytes().decode("utf-8", "surrogatepass"), arrays[f"{name}_lengths"])
