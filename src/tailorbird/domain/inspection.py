"""Inspection of a data file: columns and probable roles, before an objective names it."""

from __future__ import annotations

from tailorbird.domain.dataset import Split
from tailorbird.domain.value import Digest, Value

#: A column of labels has few values, each short, and each often; one that is called so may have more.
MOST_LABELS, LONGEST_LABEL, ROWS_A_LABEL = 300, 80, 3
MOST_NAMED_LABELS, ROWS_A_NAMED_LABEL = 1000, 2
#: Numbers of more values than this are measured, and no labels unless they are called so.
MOST_NUMBERS = 30
#: One cell in so many with several labels makes a column of several labels an item.
SEVERAL = 50


class ColumnSeen(Value):
    """A column: what its cells are (``text``, ``number``, ``list``, ``turns``, ``tools``, ``object``, ``mixed``), how many are filled, how
    many distinct values there are (``distinct`` counts to 1,000), and lengths in characters. Of lists, and of texts with ``|`` between
    short parts, ``several`` counts the cells with more than one part, ``parts`` the distinct parts (to 1,000), ``longest_part`` is in
    characters. ``defines_tools``: a cell at least defines functions, and every other does so too or is an empty list. By its
    first 5,000 cells: ``numeric``: each is a number, or the text of one; ``codes``: hardly any holds words (numbers, ids, days, addresses,
    flags); ``flags``: each is 0 or 1, or true or false; ``speakers``: each names who speaks in a conversation. ``splits``: those that cells
    name, where each cell names one, and the column is called so or its words are the usual ones."""

    name: str
    kind: str
    filled: int
    distinct: int
    mean_length: float
    longest: int
    several: int = 0
    parts: int = 0
    longest_part: int = 0
    defines_tools: bool = False
    numeric: bool = False
    codes: bool = False
    flags: bool = False
    speakers: bool = False
    splits: tuple[Split, ...] = ()

    @property
    def tells_splits(self) -> bool:
        """True when rows of train and others are told apart by it."""
        return len(self.splits) > 1 and Split.TRAIN in self.splits

    @property
    def holds_several(self) -> bool:
        """True when a cell holds several labels: in a list, or with ``|`` between them in one cell in fifty."""
        return self.kind == "list" or SEVERAL * self.several >= self.filled > 0

    @property
    def labels(self) -> int:
        """How many distinct labels the column holds, were it one of labels (counted to 1,000)."""
        return self.parts if self.holds_several else self.distinct

    def may_hold_labels(self, *, named: bool) -> bool:
        """True when its values are few and short enough to be labels; a column that is ``named`` so may have more of them."""
        most, rows = (MOST_NAMED_LABELS, ROWS_A_NAMED_LABEL) if named else (MOST_LABELS, ROWS_A_LABEL)
        if self.kind not in ("text", "number", "list") or (self.kind == "list" and not self.parts):
            return False
        if not named and (self.speakers or (self.numeric and self.distinct > MOST_NUMBERS)):
            return False
        longest = self.longest_part if self.holds_several else self.longest
        few = self.labels <= min(most, max(2, self.filled / rows))
        return few and longest <= LONGEST_LABEL and (named or self.labels > 1)


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
