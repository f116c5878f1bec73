"""What is kept of a curation between two runs: numbers and digests of its rows, in one file.

In: arrays and facts. Out: the same, or nothing where the file is missing, cut or of another version. Must not know: what they mean.

No text of a row is in it. What is derived of texts (signatures, hashes) goes with it when a person is erased: ``forget``.
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

#: The version of everything in this folder that decides what is kept, or how it is used.
VERSION = "1"
_FILE, _FACTS, _PREFIX = "rows.npz", "facts", "array_"

Arrays = Mapping[str, NDArray[Any]]


class NotAnAppend(Exception):
    """Something else happened than rows that were appended: the snapshot has to be built from all rows."""


@dataclass(frozen=True)
class State:
    """N items (distinct rows) of T texts; M of the items have a place in the snapshot.

    ids, groups uint8[N, 32]; text, target, subject, file, line, length, row int32[N] (``row`` is the place among the rows as
    stored, or -1); split int8[N] (-1: none); folded uint8[T, 16]; signatures, lengths, histograms as in ``TextIndex``; runs, holders,
    counts as in ``Runs``; near, overlaps int32[P, 2] (texts); seal int32[M] (the place in the seal of each row as stored).
    """

    facts: dict[str, Any]
    arrays: Arrays

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.arrays[name]


def load(folder: Path) -> State:
    """What was kept. Raises NotAnAppend when there is nothing that can be used: each array bears a checksum."""
    try:
        with (folder / _FILE).open("rb") as stream, np.load(stream, allow_pickle=False) as found:
            facts = json.loads(found[_FACTS].tobytes())
            arrays = {name.removeprefix(_PREFIX): found[name] for name in found.files if name != _FACTS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise NotAnAppend("nothing is kept of an earlier curation") from error
    if not isinstance(facts, dict) or facts.get("version") != VERSION:
        raise NotAnAppend("what is kept is of another version")
    return State(facts, arrays)


def save(folder: Path, state: State) -> None:
    """Keeps ``state`` in place of what was kept. Where the disk is full, nothing is kept, and nothing else happens."""
    facts: Any = np.frombuffer(json.dumps(state.facts | {"version": VERSION}).encode(), dtype=np.uint8)
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as stream:
                arrays: dict[str, Any] = {_PREFIX + name: array for name, array in state.arrays.items()}
                np.savez(stream, **{_FACTS: facts}, **arrays)
            Path(name).replace(folder / _FILE)
        finally:
            Path(name).unlink(missing_ok=True)


def forget(folder: Path) -> None:
    """Destroys what is kept."""
    for path in (folder / _FILE, *folder.glob("*.part")):
        path.unlink(missing_ok=True)
