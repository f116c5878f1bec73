"""Saved state of a curation between two builds: numbers and digests of its rows, in two files.

It holds no text of a row. What is derived of texts (signatures, hashes) is destroyed with it when a person is erased: ``forget``.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailorbird.system.files import private_folder

#: The version of everything in this folder that decides what is kept, or how it is used.
VERSION = "8"
_ROWS, _FACTS, _PREFIX = "rows.npz", "facts.npz", "array_"

#: The one reason of which nobody needs to hear: it is a first curation.
NOTHING_KEPT = "nothing is kept of an earlier curation"

Arrays = Mapping[str, NDArray[Any]]


class NotAnAppend(Exception):
    """The change is not a plain append: a full build is needed."""


@dataclass(frozen=True)
class State:
    """N items (distinct rows) of T texts, as they are compared; M of the items have a place in the snapshot.

    ids, groups uint8[N, 32]; text, target, subject, file, line, length, row int32[N] (``row`` is the place among the rows as stored, or
    -1); split int8[N] (-1: none); told uint8[T, 16], digests of the texts; signatures, lengths, histograms as in ``TextIndex``; runs,
    holders, counts as in ``WordRuns``; near, overlaps int32[P, 2] (texts); shared_runs and the like as in
    ``SharedText``; bytes int32[M]; leaves uint8[M, 32], of the seal, in its order.
    """

    facts: dict[str, Any]
    arrays: Arrays

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.arrays[name]


def load(folder: Path) -> State:
    """Loads the saved state. Raises NotAnAppend when there is none, or it is damaged (each array has a checksum)."""
    if not (folder / _FACTS).exists():
        raise NotAnAppend(NOTHING_KEPT)
    try:
        first = _read(folder / _FACTS)
        facts = json.loads(first.pop("facts").tobytes())
        if not isinstance(facts, dict) or facts.get("version") != VERSION:
            raise NotAnAppend("what is kept is of another version")
        rows = _read(folder / _ROWS)
        if facts["token"] != rows.pop("token").tobytes().hex():
            raise NotAnAppend("what is kept is of two curations")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise NotAnAppend("what is kept of an earlier curation cannot be read") from error
    return State(facts, rows | first)


def save_rows(folder: Path, arrays: Arrays) -> str:
    """Saves arrays of rows; ``save_facts`` says, by the token that comes back, that they are whole. Where the disk is full, empty."""
    token = os.urandom(16)
    kept = _write(folder / _ROWS, {**arrays, "token": np.frombuffer(token, dtype=np.uint8)})
    return token.hex() if kept else ""


def save_facts(folder: Path, token: str, facts: Mapping[str, Any], arrays: Arrays) -> None:
    """Saves facts, and the arrays known last, beside those of ``save_rows``."""
    written = json.dumps({**facts, "version": VERSION, "token": token}).encode()
    _write(folder / _FACTS, {**arrays, "facts": np.frombuffer(written, dtype=np.uint8)})


def forget(folder: Path) -> None:
    """Deletes the saved state."""
    for path in (folder / _FACTS, folder / _ROWS, *folder.glob("*.part")):
        path.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, NDArray[Any]]:
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as found:
        return {name.removeprefix(_PREFIX): found[name] for name in found.files}


def _write(path: Path, arrays: Arrays) -> bool:
    with contextlib.suppress(OSError):
        private_folder(path.parent)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as stream:
                named: dict[str, Any] = {_PREFIX + name: array for name, array in arrays.items()}
                np.savez(stream, **named)
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)
        return True
    return False
