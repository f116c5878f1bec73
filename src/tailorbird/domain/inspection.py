"""What a file of data looks like, before anybody says what it means.

In: nothing. Out: what inspecting a file gives: counts and guesses. Holds no text of a row. Must not know: how anything is guessed.
"""

from __future__ import annotations

from tailorbird.domain.value import Digest, Value


class ColumnSeen(Value):
    """A column: what its cells are (``text``, ``number``, ``list``, ``turns``, ``object``, ``mixed``), how many are filled, how many
    distinct values there are (``distinct`` counts to 1,000), and lengths in characters."""

    name: str
    kind: str
    filled: int
    distinct: int
    mean_length: float
    longest: int


class Guess(Value):
    """What a column seems to be for, and why. It is for a person to confirm."""

    role: str
    column: str
    why: str


class Inspection(Value):
    """A file as it looks. ``unusable`` counts records that could not be read, by reason. ``proposal`` is the source as it could stand in an
    objective, in YAML, with the guesses filled in; ``task`` the kind of task it would fit."""

    name: str
    kind: str
    digest: Digest
    encoding: str | None
    separator: str | None
    rows: int
    unusable: dict[str, int]
    columns: tuple[ColumnSeen, ...]
    guesses: tuple[Guess, ...]
    task: str
    proposal: str
    notes: tuple[str, ...] = ()
