"""Splits that data bring along: in a column, and in the names of files."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from tailorbird.data.readers.cells import UnusableRecord, name_cell
from tailorbird.data.readers.data_file import Record
from tailorbird.domain.dataset import Split

#: How data in use name their splits. What is only called an evaluation set is not learned from, nor chosen by.
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "trn"), Split.TRAIN),
    **dict.fromkeys(("dev", "development", "val", "valid", "validation"), Split.DEV),
    **dict.fromkeys(("test", "testing", "tst", "eval", "evaluation", "holdout"), Split.TEST),
}
_OF_FILE = re.compile(rf"(?:.*[-_. ])??({'|'.join(SPLIT_NAMES)})(?:[-_. ]?(?:set|data|file|split))?\d*(?:[-_. ].*)?", re.IGNORECASE)


def split_cell(record: Record, column: str) -> Split:
    """The split that ``column`` names. Raises UnusableRecord for what is none, so that no row is learned from by mistake."""
    name = name_cell(record, "split", column).casefold()
    if name not in SPLIT_NAMES:
        raise UnusableRecord("split_unknown", f"the split (column {column!r}) is none of train, dev (validation) and test")
    return SPLIT_NAMES[name]


def split_of_file(name: str) -> Split | None:
    """The split that a file is of, by its name or that of a folder above it, the nearest one first; None where none tells."""
    path = PurePosixPath(name)
    for part in (path.name, *reversed(path.parent.parts)):
        if found := _OF_FILE.fullmatch(part):
            return SPLIT_NAMES[found[1].casefold()]
    return None
