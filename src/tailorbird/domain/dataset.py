"""Rows with provenance and licence, documents, the manifest of the snapshot that freezes them, and the inspection of a data file."""

from __future__ import annotations

import re
from datetime import date
from enum import StrEnum
from typing import Literal, NamedTuple

from pydantic import Field

from tailorbird.domain.prompt import answer_of
from tailorbird.domain.value import Digest, Name, Value


class Split(StrEnum):
    """Which part of the data a row belongs to. ``TEST`` is sealed until one candidate is chosen."""

    TRAIN = "train"
    DEV = "dev"
    TEST = "test"


#: Among the transforms of a row whose text is that of several columns, a blank line between them.
JOINED = "joined"


class Provenance(Value):
    """Where a row came from: file, the 1-based line of the file on which the row starts, terms of use.

    ``file_digest`` is set where the file is one of a folder: that of a source is in the manifest, so that a row stays what it was when its
    file grows.
    ``subject`` is the keyed pseudonym of the person the row is about, ``retain_until`` the last day on which it may be kept, ``transforms``
    what was done to the row since it was read, in order (``relabel``, ``redact:email``).
    """

    file: str
    file_digest: Digest | None = None
    line: int
    origin: str
    license: str
    collected: str
    consent: str
    subject: str | None = None
    retain_until: date | None = None
    transforms: tuple[str, ...] = ()


class Row(Value):
    """One example. ``id`` is the digest of its normalised text and target.

    ``target`` is the label, the answer with the reasoning before it, or several labels as one text (``text/label_rules.py``).
    ``group`` ties rows that must stay on one side of a split (near-duplicates, one subject). ``shifted`` rows belong to the part of dev and
    test that stands for a world that has moved on (``ShiftRule``): none is in train.
    """

    id: Digest
    text: str
    target: str
    group: str
    split: Split
    provenance: Provenance
    shifted: bool = False

    @property
    def answer(self) -> str:
        """``target`` without what is reasoned before it: what is compared, shown, counted and guarded."""
        return answer_of(self.target)


#: The group that every asker belongs to.
EVERYONE = "everyone"


class Document(Value):
    """A document of the tenant, to be found by a question. ``access`` names the groups that may read it; an empty list: nobody.
    ``provenance`` is where it came from and whom it is about, as a row's."""

    id: str
    title: str = ""
    text: str
    access: tuple[str, ...] = (EVERYONE,)
    provenance: Provenance | None = None


class Quarantined(Value):
    """A row that was set aside, and why. Holds no text of the row."""

    file: str
    line: int
    code: str
    reason: str


class DocumentSeal(Value):
    """The tree over a snapshot's documents, by which presence and absence of each are proved, as ``root`` and ``seal`` do for rows.
    ``members`` names the artifact with the members of the tree; ``size`` counts documents."""

    root: str
    size: int
    members: Digest


class SplitCounts(Value):
    """Rows per split."""

    train: int
    dev: int
    test: int


class ShiftRule(Value):
    """Which rows are the shifted part, by the cells of the column ``by``; it stays from the objective's first snapshot on.

    By ``time``: those of ``since`` (UTC, ISO 8601) and later. By ``value``: those of the values that the objective names, or else those
    whose keyed hash of the ``attempt`` lies at ``below`` or under it: the same for values that come later.
    """

    by: str
    kind: Literal["time", "value"]
    since: str = ""
    attempt: int = 0
    below: float = 0.0


class ShiftedPart(Value):
    """The shifted part of a snapshot: its rule, how many rows of each split are in it, and of each label."""

    rule: ShiftRule
    counts: SplitCounts
    label_counts: dict[str, SplitCounts] = Field(default_factory=dict)


class SourceShape(Value):
    """What was read of one source: how many records, and its columns, sorted; none where a source has very many."""

    rows: int
    columns: tuple[str, ...] = ()


class SnapshotManifest(Value):
    """A frozen data set. Its own digest (canonical JSON) names the snapshot.

    ``rows`` and ``quarantine`` name JSONL artifacts (one ``Row`` / ``Quarantined`` a line, sorted by id / file and line). ``label_counts``
    maps a label to its train, dev and test counts; it is empty for tasks without labels. With several labels an item, a row counts for each
    of its labels, and ``label_sets`` are the distinct targets (``text/label_rules.py``) that train shows, sorted. ``curation`` names
    the ``CurationReport`` (JSON): how raw rows became these.
    ``documents`` names the JSONL artifact with the tenant's documents (one ``Document`` a line, sorted by id), where there are any.

    ``root`` is the root (hex) of the tree over the salted row hashes (``crypto/merkle.py``), by which the presence and the
    absence of a row are proved; ``seal`` holds the tree's members. ``removed`` counts the
    rows that had to go: past their retention date, erased with their subject, or dropped by a person; they stand in ``quarantine`` with the
    reason. ``expires`` is the first day on which retention of one of its rows ends; ``parent`` the snapshot that this one was made from by
    erasing or fixing.
    ``shift`` is the shifted part, where the objective asks for one; ``counts`` and ``label_counts`` hold its rows, too.
    ``sealed_documents`` is the seal of the documents, where there are any. ``outside`` is the label of examples that are out
    of scope, where the objective asks for that: ``counts`` and ``label_counts`` hold them, and ``labels`` does not.
    ``sources`` are the sources of ``files`` as they were read; their rows add up to ``read``.
    ``answers`` says what of a row that is a conversation is an item to be measured (``data/answer_items.py``): what the assistant said
    ``last``, ``all`` that it said, or all but its calls of functions (``words``).
    """

    tenant: Name
    objective: Name
    rows: Digest
    quarantine: Digest
    read: int
    duplicates: int
    quarantined: int
    counts: SplitCounts
    label_counts: dict[str, SplitCounts]
    near_duplicate_groups: int
    files: dict[str, Digest]
    salt: str
    text_length_p95: int
    text_length_max: int
    label_sets: tuple[str, ...] = ()
    curation: Digest
    documents: Digest | None = None
    root: str
    seal: Digest
    removed: int = 0
    expires: date | None = None
    parent: Digest | None = None
    sealed_documents: DocumentSeal | None = None
    shift: ShiftedPart | None = None
    outside: str = ""
    answers: Literal["last", "all", "words"] = "last"
    sources: dict[str, SourceShape] = Field(default_factory=dict)

    def is_known(self, row: Row) -> bool:
        """True of a row that one of the task's labels fits; False of an example of what is out of scope."""
        return not self.outside or row.answer != self.outside

    def unshifted(self, label: str | None, split: Split) -> int:
        """Rows of ``split`` outside of the shifted part, of all labels or of one: what KPIs are measured on. What is out of scope is
        none of them, unless its label is asked for."""
        parts = [(self.counts, self.label_counts), *([(self.shift.counts, self.shift.label_counts)] if self.shift else [])]
        held, *shifted = (_counted(*part, label, split) - self._outside_in(part[1], label, split) for part in parts)
        return held - sum(shifted)

    @property
    def learned_rows(self) -> int:
        """Rows of train that can be learned from, counted and shown: none of what is out of scope is."""
        return self.unshifted(None, Split.TRAIN)

    @property
    def asked_rows(self) -> int:
        """Rows that a candidate answers on dev: those of the shifted part too, and all examples of what is out of scope that are not
        sealed in test."""
        return self.counts.dev + self._outside_in(self.label_counts, None, Split.TRAIN)

    def _outside_in(self, label_counts: dict[str, SplitCounts], label: str | None, split: Split) -> int:
        counted = label_counts.get(self.outside) if self.outside and label is None else None
        return 0 if counted is None else int(getattr(counted, split.value))

    @property
    def size(self) -> int:
        """All rows."""
        return self.counts.train + self.counts.dev + self.counts.test

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels of the task, sorted."""
        return tuple(sorted(label for label in self.label_counts if label != self.outside))


def _counted(counts: SplitCounts, label_counts: dict[str, SplitCounts], label: str | None, split: Split) -> int:
    held = counts if label is None else label_counts.get(label)
    return 0 if held is None else int(getattr(held, split.value))


Use = Literal["research", "internal", "commercial", "distributed"]


class Terms(NamedTuple):
    """What a licence allows: use for profit; sharing what was made from the data; sharing it under other terms."""

    commercial: bool = True
    derivatives: bool = True
    other_terms: bool = True


_OPEN, _SHARE_ALIKE = Terms(), Terms(other_terms=False)

#: Licences by their SPDX name in lower case. Versions of one licence that ask the same stand once, without the version.
TABLE: dict[str, Terms] = {
    "apache-2.0": _OPEN,
    "bsd-2-clause": _OPEN,
    "bsd-3-clause": _OPEN,
    "cc-by": _OPEN,
    "cc-by-nc": Terms(commercial=False),
    "cc-by-nc-nd": Terms(commercial=False, derivatives=False),
    "cc-by-nc-sa": Terms(commercial=False, other_terms=False),
    "cc-by-nd": Terms(derivatives=False),
    "cc-by-sa": _SHARE_ALIKE,
    "cc0": _OPEN,
    "cc0-1.0": _OPEN,
    "cdla-permissive": _OPEN,
    "cdla-sharing": _SHARE_ALIKE,
    "gpl-3.0": _SHARE_ALIKE,
    "gpl-3.0-only": _SHARE_ALIKE,
    "gpl-3.0-or-later": _SHARE_ALIKE,
    "isc": _OPEN,
    "mit": _OPEN,
    "odbl": _SHARE_ALIKE,
    "odc-by": _OPEN,
    "ogl-uk": _OPEN,
    "pddl": _OPEN,
    "public-domain": _OPEN,
    "unlicense": _OPEN,
}

#: Uses that need a term, by the name of the term and why it is needed.
_NEEDS: dict[str, tuple[frozenset[Use], str]] = {
    "commercial": (frozenset({"internal", "commercial", "distributed"}), "it does not allow commercial use"),
    "derivatives": (frozenset({"commercial", "distributed"}), "it does not allow sharing what is made from it"),
    "other_terms": (frozenset({"distributed"}), "what is made from it and given away must bear the same licence"),
}


def terms_of(licence: str) -> Terms | None:
    """Terms of ``licence``; None when it is not in the table."""
    name = re.sub(r"[\s_]+", "-", licence.strip().casefold())
    return TABLE.get(name) or TABLE.get(re.sub(r"-v?\d+(\.\d+)*$", "", name))


def clash(licence: str, use: Use) -> str | None:
    """Reason why ``licence`` does not allow ``use``; None when it does, or when it is not in the table."""
    terms = terms_of(licence)
    if terms is None:
        return None
    return next((why for term, (uses, why) in _NEEDS.items() if use in uses and not getattr(terms, term)), None)


#: A column of labels has few values, each short, and each often; one that is called so may have more.
MOST_LABELS, LONGEST_LABEL, ROWS_A_LABEL = 300, 80, 3
MOST_NAMED_LABELS, ROWS_A_NAMED_LABEL = 1000, 2
#: Numbers of more values than this are measured, and no labels unless they are called so.
MOST_NUMBERS = 30
#: One cell in so many with several labels makes a column of several labels an item.
SEVERAL = 50


class ColumnSeen(Value):
    """A column: what its cells are (``text``, ``number``, ``list``, ``turns``, ``object``, ``mixed``), how many are filled, how
    many distinct values there are (``distinct`` counts to 1,000), and lengths in characters. Of lists, and of texts with ``|`` between
    short parts, ``several`` counts the cells with more than one part, ``parts`` the distinct parts (to 1,000), ``longest_part`` is in
    characters. ``defines_tools``: a cell at least defines functions, and every other does so too or is an empty list. By its
    first 5,000 cells: ``numeric``: each is a number, or the text of one; ``codes``: hardly any holds words (numbers, ids, days, addresses,
    flags); ``flags``: each is 0 or 1, or true or false. ``splits``: those that cells name, where each cell names one, and the column is
    called so or its words are the usual ones."""

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
        if not named and self.numeric and self.distinct > MOST_NUMBERS:
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

    @property
    def form(self) -> dict[str, object]:
        """How a text file is written, where a source has to say so."""
        usual = {"encoding": (None, "utf-8"), "separator": (None, "\t" if self.kind == "tsv" else ",")}
        return {key: getattr(self, key) for key, values in usual.items() if getattr(self, key) not in values}

    @property
    def terms(self) -> dict[str, str]:
        """Columns with a row's own terms, as ``data.terms`` names them."""
        keys = ("license", "collected", "consent", "retain_until")
        return {guess.role: guess.column for guess in self.guesses if guess.role in keys}
