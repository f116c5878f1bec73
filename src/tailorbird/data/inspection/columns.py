"""Columns of a data file: type of their cells, and probable role of each."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tailorbird.data.inspection.column_names import (
    ABOUT,
    AGAINST,
    DIVISIONS,
    INSTRUCTIONS,
    LABEL_WORDS,
    LONGEST_NAME,
    LONGEST_PERSON,
    NAMES,
    OTHER_WORDS,
    PAIRS,
    QUERIES,
    SPEAKING,
    SPLIT_COLUMNS,
    TEXT_WORDS,
    USUAL_SPLITS,
    WEAK_TEXTS,
    plain_name,
    words_of,
)
from tailorbird.data.readers.cells import SPLIT_NAMES, labels_in_text, names_in_list
from tailorbird.data.readers.turns import ROLES, SPEAKER_KEYS, is_turn
from tailorbird.domain.dataset import Split
from tailorbird.domain.inspection import ColumnSeen, Guess

_NUMBER = re.compile(r"[-+]?[.,' ]*\d[\d.,' ]*(?:[eE][-+]?\d+)?\s?%?")
_SPACE = re.compile(r"\S\s+\S")
#: Who speaks, as columns and transcripts of customer service name them.
_PEOPLE = ("support", "operator")
SPEAKERS = frozenset({*ROLES, *_PEOPLE})
_SPOKEN = re.compile(rf"^[^\w\n]{{0,8}}(?:{'|'.join(sorted(SPEAKERS))})[^\w\n]{{0,4}}:", re.IGNORECASE | re.MULTILINE)
_NO_LABELS = frozenset({"nan", "none", "null", "n/a", "na", "#n/a", "-", "?"})
_FLAGS = frozenset({"0", "1", "0.0", "1.0", "true", "false"})
#: What may stand between labels, beside ``|``; a longer cell is no list of labels.
BETWEEN, _LONGEST_CELL = ";,", 300
#: Cells that are looked at: what a column is, its first ones show.
MOST_CELLS = 5_000
#: Parts counted at most; characters of a cell that are looked at.
_PARTS, _START = 1000, 4000


@dataclass
class CellMarks:
    """Counts of a column's first cells by what they look like; of texts only hashes are kept, but for the few that stand for no label."""

    filled: int = 0
    numbers: int = 0
    flags: int = 0
    worded: int = 0
    speakers: int = 0
    transcripts: int = 0
    records: int = 0
    python_turns: int = 0
    nothings: set[str] = field(default_factory=set)
    several: Counter[str] = field(default_factory=Counter)
    parts: dict[str, set[int]] = field(default_factory=lambda: {mark: set() for mark in BETWEEN})

    def add(self, cell: Any) -> None:
        """Counts one cell that is filled."""
        if self.filled == MOST_CELLS:
            return
        self.filled += 1
        if not isinstance(cell, str):
            self.records += isinstance(cell, list) and len(cell) > 0 and isinstance(cell[0], dict) and not is_turn(cell[0])
            self.numbers += isinstance(cell, int | float) and not isinstance(cell, bool)
            self.flags += cell in (0, 1) if isinstance(cell, int | float) else 0
            return
        text = cell[:_START]
        plain = text.strip().casefold()
        self.numbers += _NUMBER.fullmatch(text.strip()) is not None
        self.flags += plain in _FLAGS
        self.worded += not text.isascii() or (_SPACE.search(text) is not None and any(map(str.isalpha, text)))
        self.speakers += plain in SPEAKERS
        self.transcripts += len(_SPOKEN.findall(text)) > 1
        self.python_turns += plain.startswith("[{'") and ("'role'" in plain or "'from'" in plain)
        if plain in _NO_LABELS:
            self.nothings.add(text.strip())
        self._add_parts(text)

    def _add_parts(self, text: str) -> None:
        for mark in BETWEEN if len(text) <= _LONGEST_CELL else ():
            parts = [part.strip() for part in text.split(mark)]
            self.several[mark] += len(parts) > 1
            if len(self.parts[mark]) < _PARTS:
                self.parts[mark].update(map(hash, parts))

    def share(self, count: int) -> float:
        """Which part of the filled cells ``count`` is."""
        return count / max(1, self.filled)


#: Distinct values counted at most.
DISTINCT = 1000
#: What tells that a list of objects is a conversation: see ``is_turn``.
_SPEAKER = re.compile(
    rf'"(?:{"|".join(SPEAKER_KEYS[:2])})"\s*:|"(?:{"|".join(SPEAKER_KEYS[2:])})"\s*:\s*"(?:{"|".join(ROLES)})"', re.IGNORECASE
)
#: Words kept of a column that may say splits, and of those that say none, for a remark.
_MOST_WORDS, _LONGEST_WORD = 6, 40
#: So many columns of 0 and 1 are a label each, where nothing else is to be learned.
_MANY_FLAGS = 3
#: How much longer than a text of a weak name one must be that is called a text, and one that is not.
_LONGER, _MUCH_LONGER = 1.5, 3.0
#: A longer part of a cell is no label, and a longer list none of labels.
_LONGEST_PART, _MOST_PARTS = 80, 100


@dataclass
class ColumnTally:
    """A column while it streams by: no cell is kept, only hashes of the first distinct ones."""

    name: str
    filled: int = 0
    characters: int = 0
    longest: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    values: set[int] = field(default_factory=set)
    several: int = 0
    parts: set[int] = field(default_factory=set)
    longest_part: int = 0
    tools: int = 0
    not_tools: int = 0
    marks: CellMarks = field(default_factory=CellMarks)
    split_words: set[str] = field(default_factory=set)
    other_words: list[str] = field(default_factory=list)

    def add(self, cell: Any) -> None:
        """Counts one cell."""
        if cell is None or (isinstance(cell, str) and not cell.strip()):
            return
        length = len(cell) if isinstance(cell, str) else len(str(cell))
        self.filled += 1
        self.characters += length
        self.longest = max(self.longest, length)
        kind = kind_of(cell)
        self.kinds[kind] += 1
        self.marks.add(cell)
        self._add_split(cell)
        self._add_tools(cell, kind)
        if len(self.values) < DISTINCT:
            self.values.add(hash(cell if isinstance(cell, str) else str(cell)))
        self._add_parts(parts_of(cell, numbers=plain_name(self.name) in NAMES["label"]))

    def _add_split(self, cell: Any) -> None:
        """Words for splits are compared as they are read (``split_cell``). What is none is kept of columns that are called so alone."""
        if self.other_words and (len(self.other_words) == _MOST_WORDS or plain_name(self.name) not in SPLIT_COLUMNS):
            return
        word = cell.strip().casefold() if isinstance(cell, str) else str(cell)[:_LONGEST_WORD]
        if word in SPLIT_NAMES:
            self.split_words.add(word)
        elif word[:_LONGEST_WORD] not in self.other_words:
            self.other_words.append(word[:_LONGEST_WORD])

    def _add_tools(self, cell: Any, kind: str) -> None:
        """Conversations that offer no tools hold an empty list."""
        if isinstance(cell, str) and kind in ("text", "list") and self.not_tools == 0:
            cell = _json_list(cell) if cell.lstrip().startswith("[") else cell
            kind = "tools" if _define(cell) else "list" if isinstance(cell, list) else "text"
        self.tools += kind == "tools"
        self.not_tools += kind != "tools" and cell != []

    def _add_parts(self, parts: list[str]) -> None:
        self.several += len(parts) > 1
        for part in parts:
            self.longest_part = max(self.longest_part, len(part))
            if len(self.parts) < DISTINCT:
                self.parts.add(hash(part))

    def seen(self) -> ColumnSeen:
        """What is known of the column by now. One kind in twenty cells may be another without making the column mixed."""
        kind, count = self.kinds.most_common(1)[0] if self.kinds else ("text", 0)
        return ColumnSeen(
            name=self.name[:200],
            kind=kind if count >= 0.95 * self.filled else "mixed",
            filled=self.filled,
            distinct=len(self.values),
            mean_length=round(self.characters / max(1, self.filled), 1),
            longest=self.longest,
            several=self.several,
            parts=len(self.parts),
            longest_part=self.longest_part,
            defines_tools=self.tools > 0 and self.not_tools == 0,
            numeric=0 < self.marks.filled == self.marks.numbers,
            codes=self.marks.share(self.marks.worded) < 0.05,
            flags=0 < self.marks.filled == self.marks.flags and len(self.values) <= 2,
            speakers=self.marks.filled == self.marks.speakers and len(self.values) > 1 and plain_name(self.name) in SPEAKING,
            splits=self._splits(),
        )

    def _splits(self) -> tuple[Split, ...]:
        name = plain_name(self.name)
        told = name in SPLIT_COLUMNS or (name not in NAMES["label"] and self.split_words <= USUAL_SPLITS)
        return tuple(sorted({SPLIT_NAMES[word] for word in self.split_words})) if told and not self.other_words else ()


def kind_of(cell: Any) -> str:
    """What one cell is."""
    if isinstance(cell, str) and cell.lstrip().startswith(("[{", "[ {")) and '"parameters"' in cell[:20_000] and '"role"' not in cell[:200]:
        return "tools" if _define(_json_list(cell)) else "text"
    if isinstance(cell, str):
        if cell.lstrip().startswith("[{"):
            return "turns" if _SPEAKER.search(cell, 0, 2000) else "text"
        return "list" if labels_in_text(cell) is not None else "text"
    if isinstance(cell, bool | int | float):
        return "number"
    if isinstance(cell, dict):
        return "object"
    if isinstance(cell, list) and _define(cell):
        return "tools"
    if isinstance(cell, list):
        return "turns" if cell and is_turn(cell[0]) else "list"
    return "text"


def _define(value: Any) -> bool:
    """True for definitions of functions, with OpenAI's frame or without."""
    if not isinstance(value, list) or not value:
        return False
    functions = [item.get("function", item) if isinstance(item, dict) else None for item in value]
    return all(isinstance(each, dict) and "name" in each and {"parameters", "description"} & each.keys() for each in functions)


def parts_of(cell: Any, *, numbers: bool = True) -> list[str]:
    """The labels that a cell may hold: the texts of a list, of a text that is a JSON list, or those between ``|``; none where it is no
    list of short texts. Whole numbers are labels where ``numbers`` says so: other lists of them are places, or tokens."""
    if isinstance(cell, list) and (len(cell) > _MOST_PARTS or (not numbers and any(isinstance(item, int) for item in cell))):
        return []
    if isinstance(cell, str):
        labels = labels_in_text(cell)
        cell = cell.split("|") if labels is None else labels
    parts = names_in_list(cell)
    if parts is None or not all(0 < len(part.strip()) <= _LONGEST_PART for part in parts):
        return []
    return [part.strip() for part in parts]


def _json_list(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def guess_roles(columns: Sequence[ColumnSeen], rows: int) -> tuple[Guess, ...]:
    """One column a role at most, and one role a column. Roles without which there is no task come first."""
    guessing = _Guessing({column.name: column for column in columns if column.filled}, rows)
    guessing.by_names(("messages", "split"))
    if "messages" not in guessing.found:
        guessing.messages_by_content()
    guessing.split_by_content()
    guessing.by_names(("tools",) if "messages" in guessing.found else ("text", "label", "answer", "relevant"))
    guessing.by_names(tuple(role for role in NAMES if role not in ("messages", "tools", "text", "label", "answer", "relevant", "split")))
    if "messages" not in guessing.found:
        guessing.rest_by_content()
        guessing.label_by_splits()
    return guessing.guesses()


def task_of(guesses: Iterable[Guess]) -> str:
    """The kind of task that the guesses fit. An instruction with a response is one to learn, whatever else is told about it."""
    told = {guess.role: plain_name(guess.column) for guess in guesses}
    roles = told.keys()
    if "messages" in roles:
        return "generate"
    if {"text", "label"} <= roles and not (told["text"] in INSTRUCTIONS and told.get("answer") in NAMES["answer"]):
        return "classify"
    if {"text", "answer"} <= roles:
        return "generate"
    if {"text", "relevant"} <= roles:
        return "rank"
    return "documents" if "text" in roles else "unknown"


class _Guessing:
    """Columns that have no role yet, by name, and the guesses so far, by role."""

    def __init__(self, free: dict[str, ColumnSeen], rows: int) -> None:
        self.free = free
        self.rows = rows
        self.found: dict[str, Guess] = {}
        self.more_labels: list[Guess] = []

    def guesses(self) -> tuple[Guess, ...]:
        """All of them, in the order of roles."""
        found = {role: [guess] for role, guess in self.found.items()} | {"more_labels": self.more_labels}
        return tuple(guess for role in NAMES for guess in found.get(role, ()))

    def by_names(self, roles: Iterable[str]) -> None:
        for role in roles:
            names = {plain_name(name): name for name in self.free if self._fits(role, self.free[name], named=True)}
            known = next((name for name in NAMES[role] if name in names), None)
            if known is None or (role == "relevant" and not self._asks()):
                continue
            column = self.free[names[known]]
            richer = self._richer(column) if role == "text" and known in WEAK_TEXTS else None
            spelled = self._spelled_out(column) if role == "label" else None
            if richer is not None:
                self._take(role, richer.name, f"it says more than {column.name[:40]} (mean {richer.mean_length:g} characters)")
            elif spelled is not None:
                self._take(role, spelled.name, f"it is called {spelled.name[:40]}, and names the numbers of {column.name[:40]}")
            else:
                self._take(role, column.name, f"it is called {column.name[:40]}")

    def _spelled_out(self, numbers: ColumnSeen) -> ColumnSeen | None:
        """The column with the names of labels that a column of their numbers stands for."""
        names = {f"{plain_name(numbers.name)}_{end}" for end in ("text", "name", "names", "str")} if numbers.numeric else set()
        named = (column for column in self.free.values() if plain_name(column.name) in names and not column.numeric)
        return next((column for column in named if column.distinct == numbers.distinct and column.may_hold_labels(named=True)), None)

    def messages_by_content(self) -> None:
        for column in [each for each in self._fitting("messages") if plain_name(each.name) not in AGAINST][:1]:
            self._take("messages", column.name, "its cells are turns with roles")

    def split_by_content(self) -> None:
        fitting = sorted(self._fitting("split"), key=lambda column: plain_name(column.name) not in SPLIT_COLUMNS)
        for column in fitting[:1] if "split" not in self.found else ():
            self._take("split", column.name, "its values are those of splits")

    def label_by_splits(self) -> None:
        """Words for splits are labels where nothing else is to be learned (stages of work, kinds of request)."""
        split = self.found.get("split")
        learned = {"label", "answer", "relevant", "messages"} & self.found.keys()
        if split is not None and "text" in self.found and not learned and plain_name(split.column) not in DIVISIONS:
            del self.found["split"]
            self.found["label"] = Guess(role="label", column=split.column, why="its values are few, and nothing else is to be learned")

    def rest_by_content(self) -> None:
        """Where no name helps: the longest texts are the text, few short values are labels; without labels, the first of two columns of
        free texts is the text, and the longest of the others the answer, unless one is called so whose cells are none."""
        if "text" not in self.found:
            self._guess_text()
        if "text" not in self.found and (title := self.found.pop("title", None)):
            self.found["text"] = Guess(role="text", column=title.column, why=f"{title.why}, and nothing else is a text")
        self._guess_flags()
        if not {"label", "answer", "relevant"} & self.found.keys():
            labels = sorted(self._fitting("label"), key=lambda column: (not words_of(column.name) & LABEL_WORDS, column.labels))
            for column in labels[:1]:
                self._take("label", column.name, f"{column.labels} short values, each many times")
        answers = any(plain_name(column.name) in ("answer", "answers") for column in self.free.values())
        if not {"label", "answer", "relevant"} & self.found.keys() and "text" in self.found and not answers:
            for column in sorted(self._free_texts(), key=lambda column: -column.mean_length)[:1]:
                self._take("answer", column.name, f"its texts differ from row to row (mean {column.mean_length:g} characters)")
        self._guess_pair()

    def _guess_flags(self) -> None:
        """Columns of 0 and 1, where nothing else may be the label, are a label each."""
        flags = [column for column in self.free.values() if column.flags and plain_name(column.name) not in ABOUT + AGAINST]
        others = [column for column in self._fitting("label") if not column.numeric and not column.flags]
        if len(flags) < _MANY_FLAGS or others or "text" not in self.found or {"label", "answer", "relevant"} & self.found.keys():
            return
        for column in flags:
            why = f"0 and 1, as in {len(flags) - 1} other columns: each is a label"
            if "label" not in self.found:
                self._take("label", column.name, why)
            else:
                self.more_labels.append(Guess(role="more_labels", column=column.name, why=why))
                del self.free[column.name]

    def _guess_pair(self) -> None:
        """Two texts that are always told about together, in the order of their names."""
        text = self.found.get("text")
        if text is None or "relevant" in self.found or not {"label", "answer"} & self.found.keys():
            return
        for pair in PAIRS:
            name = plain_name(text.column)
            other = next((column for column in self.free.values() if {plain_name(column.name), name} == {*pair}), None)
            if other is not None and other.kind == "text" and (pair[0] in INSTRUCTIONS or other.filled >= 0.5 * self.rows):
                first, second = (text.column, other.name) if name == pair[0] else (other.name, text.column)
                del self.free[other.name]
                if first != text.column:
                    self.found["text"] = Guess(role="text", column=first, why=f"{second[:40]} stands beside it")
                self.found["more_text"] = Guess(role="more_text", column=second, why=f"it stands beside {first[:40]}")
                return

    def _richer(self, weak: ColumnSeen) -> ColumnSeen | None:
        """The column of texts that says more than one whose name hardly tells, beside a label. What is written about a text, or has a role
        of its own, is none."""
        if not any(self._fits("label", each, named=plain_name(each.name) in NAMES["label"]) for each in self.free.values()):
            return None
        known = {name for role in NAMES if role != "text" for name in NAMES[role]} | {*ABOUT}

        def says_more(column: ColumnSeen) -> bool:
            words = words_of(column.name)
            times = _LONGER if words & TEXT_WORDS else _MUCH_LONGER
            free = not words & OTHER_WORDS and plain_name(column.name) not in known
            return free and column.name != weak.name and column.mean_length >= times * weak.mean_length

        return max(filter(says_more, self._free_texts()), key=lambda column: column.mean_length, default=None)

    def _guess_text(self) -> None:
        texts, free = self._fitting("text"), self._free_texts()
        if not texts:
            return
        others = [column for column in self._fitting("label") if column not in free]
        if len(free) > 1 and not others and not {"label", "answer"} & self.found.keys():
            self._take("text", free[0].name, "it is the first of the columns of free texts")
            return
        longest = max(texts, key=lambda column: column.mean_length)
        self._take("text", longest.name, f"its texts are the longest (mean {longest.mean_length:g} characters)")

    def _take(self, role: str, name: str, why: str) -> None:
        self.found[role] = Guess(role=role, column=name, why=why)
        del self.free[name]

    def _asks(self) -> bool:
        """True when the text is called a query, and nothing else is there to learn."""
        text = self.found.get("text")
        told = any(plain_name(each.name) in NAMES["answer"] and each.may_hold_labels(named=True) for each in self.free.values())
        return text is not None and plain_name(text.column) in QUERIES and not told and not {"label", "answer"} & self.found.keys()

    def _fitting(self, role: str) -> list[ColumnSeen]:
        return [column for column in self.free.values() if self._fits(role, column, named=False)]

    def _free_texts(self) -> list[ColumnSeen]:
        """Columns whose texts mostly differ from row to row: no labels, no flags."""
        return [column for column in self._fitting("text") if column.mean_length >= 8 and 2 * column.distinct >= min(column.filled, 1000)]

    def _fits(self, role: str, column: ColumnSeen, *, named: bool) -> bool:
        if role == "messages":
            return column.kind == "turns"
        if role == "tools":
            return column.defines_tools
        if role == "split":
            return column.tells_splits
        if role == "label":
            return column.may_hold_labels(named=named) and (named or plain_name(column.name) not in ABOUT + AGAINST)
        if role in ("text", "answer"):
            return self._fits_text(role, column, named=named)
        if role == "relevant":
            return column.kind in ("text", "number", "list") and column.filled >= 0.5 * self.rows
        if role == "subject":
            differ = not column.codes and 2 * column.distinct >= min(column.filled, DISTINCT)
            line = plain_name(column.name) == "subject" and differ  # people come again, lines of mails hardly do
            return column.kind in ("text", "number") and column.mean_length <= (LONGEST_NAME if line else LONGEST_PERSON)
        return column.kind in ("text", "number")

    def _fits_text(self, role: str, column: ColumnSeen, *, named: bool) -> bool:
        """Numbers may be answers where they are called so; codes, ids and days are no texts unless they are called so."""
        if column.filled < 0.5 * self.rows or (column.kind != "text" and not column.numeric):
            return False
        if column.kind == "number" and column.may_hold_labels(named=False):
            return False
        if named:
            return role == "answer" or not column.numeric
        return not column.codes and plain_name(column.name) not in AGAINST
