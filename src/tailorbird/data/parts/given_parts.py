"""How parts of a build come from others, and go to them: bytes by the name of the part."""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tailorbird.crypto.canonical_json import canonical_json

#: The version of the bytes of all parts.
VERSION = "3"


class GivenParts(Protocol):
    """Parts of one build that somebody has done, whoever it is. What they hold may be of another build: its head says of which."""

    @property
    def wanted(self) -> bool:
        """False once the build has ended."""
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

    wanted = False
    known: Collection[str] = ()

    def get(self, _name: str) -> None:
        """Nothing is there."""

    def put(self, _name: str, _data: bytes) -> bool:
        """Nobody wants it."""
        return False


def packed(head: Mapping[str, Any], facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The bytes of a part: what it is of, and what it holds."""
    told = canonical_json({"version": VERSION, **head}) + b"\n" + json.dumps(facts).encode()
    blob = io.BytesIO()
    np.savez(blob, told=np.frombuffer(told, dtype=np.uint8), **arrays)  # type: ignore[arg-type]
    return blob.getvalue()


def unpacked(data: bytes, head: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Facts and arrays of a part. Raises ValueError where it is of something else than ``head`` says, or damaged."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
        about, _, facts = arrays.pop("told").tobytes().partition(b"\n")
    except Exception as error:
        raise ValueError("no part") from error
    if about != canonical_json({"version": VERSION, **head}):
        raise ValueError("the part is of another build")
    told: dict[str, Any] = json.loads(facts)
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
