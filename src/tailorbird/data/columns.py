"""Columns of a data file: type of their cells, probable role of each, and remarks on what would be read otherwise than it was meant."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tailorbird.chat.tool_calls import ToolFault, tools_text
from tailorbird.data.readers.cells import ROLES, SPEAKER_KEYS, SPLIT_NAMES, is_turn, labels_in_text, names_in_list
from tailorbird.domain.dataset import LONGEST_LABEL, ColumnSeen, Guess

#: Names that columns of a role often have, the likeliest first.
NAMES = {
    "messages": ("messages", "conversations", "conversation", "chat", "turns", "dialogue"),
    "tools": ("tools", "functions"),
    "text": (
        *("text", "message", "instruction", "prompt", "question", "query", "input", "sentence", "utterance", "body", "content"),
        *("document", "anchor", "review", "comment", "premise", "description", "article", "transcript"),
    ),
    "label": ("label", "labels", "category", "intent", "class", "topic", "target", "tag", "tags", "sentiment"),
    "answer": ("answer", "response", "output", "completion", "reply", "summary", "chosen"),
    "relevant": ("document", "passage", "positive", "page", "relevant", "doc", "doc_id", "document_id", "corpus_id"),
    "subject": ("subject", "customer", "customer_id", "user", "user_id", "author", "person", "email", "account", "patient"),
    "split": ("split",),
    "id": ("id", "_id", "query_id", "doc_id"),
    "title": ("title", "headline", "subject"),
    "license": ("license", "licence"),
    "consent": ("consent", "consent_basis"),
    "collected": ("collected", "collected_at", "created", "created_at", "date"),
    "retain_until": ("retain_until", "retention", "delete_after"),
}
#: What a column of queries is called: the documents beside it are those that answer them.
_QUERIES = ("query", "question", "search", "anchor")
#: What a column of instructions is called: the response beside it is what is learned.
_INSTRUCTIONS = ("instruction", "prompt")
#: Of several columns with few values one that is called so is the label.
_LIKELY_LABELS = ("answer", "stars", "rating", "score", "grade", "emotion", "severity", "priority", "queue", "department")
#: Columns whose words for splits are taken for such; those of others are where they are the usual ones.
SPLIT_COLUMNS = ("split", "data_split", "dataset_split", "set", "subset", "partition", "fold")
_USUAL_SPLITS = frozenset({"train", "dev", "val", "valid", "validation", "test"})
#: Columns that are nothing to learn, unless somebody says so: what tells about a row, and what is not to be answered.
NOT_LEARNED = (
    *("source", "origin", "dataset", "lang", "language", "locale", "channel", "version", "model", "url", "file", "filename"),
    *("split", "data_split", "dataset_split", "fold", "negative", "negatives", "hard_negative", "rejected"),
)
#: People are named in so many characters on average; a column ``subject`` whose texts are longer is what a mail is about.
_LONGEST_PERSON, _LONGEST_SUBJECT = 32, 18

_NUMBER = re.compile(r"[-+]?[.,' ]*\d[\d.,' ]*(?:[eE][-+]?\d+)?\s?%?")
_SPACE = re.compile(r"\S\s+\S")
#: What tells that a list of objects is a conversation: see ``is_turn``.
_SPEAKER = re.compile(
    rf'"(?:{"|".join(SPEAKER_KEYS[:2])})"\s*:|"(?:{"|".join(SPEAKER_KEYS[2:])})"\s*:\s*"(?:{"|".join(ROLES)})"', re.IGNORECASE
)
_NO_LABELS = frozenset({"nan", "none", "null", "n/a", "na", "#n/a", "-", "?"})
_FLAGS = frozenset({"0", "1", "0.0", "1.0", "true", "false"})
#: Cells that are looked at closely, and characters of each; distinct values counted at most.
MOST_CELLS, _START, _DISTINCT = 5_000, 4000, 1000
#: A longer part of a cell is no label, and a longer list none of labels; a longer word names no split.
_LONGEST_PART, _MOST_PARTS, _LONGEST_WORD = 80, 100, 40


def plain_name(name: str) -> str:
    """A column's name as names are compared."""
    return name.strip().casefold().replace("-", "_").replace(" ", "_")


@dataclass
class ColumnTally:
    """A column while it streams by: no cell is kept, only hashes of the first distinct ones. What cells look like is counted of the first
    ``MOST_CELLS``."""

    name: str
    filled: int = 0
    characters: int = 0
    longest: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    values: set[int] = field(default_factory=set)
    several: int = 0
    parts: set[int] = field(default_factory=set)
    longest_part: int = 0
    looks: Counter[str] = field(default_factory=Counter)
    nothings: set[str] = field(default_factory=set)
    split_words: set[str] = field(default_factory=set)
    no_split: str = ""
    defines_tools: bool = False
    other_tools: bool = False

    def add(self, cell: Any) -> None:
        """Counts one cell."""
        if cell is None or (isinstance(cell, str) and not cell.strip()):
            return
        text = cell if isinstance(cell, str) else str(cell)
        self.filled += 1
        self.characters += len(text)
        self.longest = max(self.longest, len(text))
        self.kinds[kind_of(cell)] += 1
        if self.filled <= MOST_CELLS and isinstance(cell, str | int | float):
            start = text[:_START]
            plain = start.strip().casefold()
            self.looks["number"] += not isinstance(cell, bool) and _NUMBER.fullmatch(plain) is not None
            self.looks["flag"] += plain in _FLAGS
            self.looks["words"] += not start.isascii() or (_SPACE.search(start) is not None and any(map(str.isalpha, start)))
            if plain in _NO_LABELS:
                self.nothings.add(start.strip())
        if not self.no_split:
            word = text.strip().casefold()[:_LONGEST_WORD]
            self.split_words |= {word} & SPLIT_NAMES.keys()
            self.no_split = "" if word in SPLIT_NAMES else word
        if not self.other_tools:
            try:  # conversations that offer no tools hold an empty list
                self.defines_tools |= bool(tools_text(cell))
            except ToolFault:
                self.other_tools = True
        if len(self.values) < _DISTINCT:
            self.values.add(hash(text))
        parts = parts_of(cell, numbers=plain_name(self.name) in NAMES["label"])
        self.several += len(parts) > 1
        for part in parts:
            self.longest_part = max(self.longest_part, len(part))
            if len(self.parts) < _DISTINCT:
                self.parts.add(hash(part))

    def share(self, look: str) -> float:
        """Which part of the cells looked at has this look."""
        return self.looks[look] / max(1, min(self.filled, MOST_CELLS))

    def seen(self) -> ColumnSeen:
        """What is known of the column by now. One kind in twenty cells may be another without making the column mixed."""
        kind, count = self.kinds.most_common(1)[0] if self.kinds else ("text", 0)
        name = plain_name(self.name)
        named = name in SPLIT_COLUMNS or (name not in NAMES["label"] and self.split_words <= _USUAL_SPLITS)
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
            defines_tools=self.defines_tools and not self.other_tools,
            numeric=self.share("number") == 1,
            codes=self.share("words") < 0.05,
            flags=self.share("flag") == 1 and len(self.values) <= 2,
            splits=tuple(sorted({SPLIT_NAMES[word] for word in self.split_words})) if named and not self.no_split else (),
        )


def kind_of(cell: Any) -> str:
    """What one cell is."""
    if isinstance(cell, str) and cell.lstrip().startswith("[{"):
        return "turns" if _SPEAKER.search(cell, 0, 2000) else "list"
    if isinstance(cell, str):
        return "list" if labels_in_text(cell) is not None else "text"
    if isinstance(cell, int | float):
        return "number"
    if isinstance(cell, list):
        return "turns" if cell and is_turn(cell[0]) else "list"
    return "object" if isinstance(cell, dict) else "text"


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


def guess_roles(columns: Sequence[ColumnSeen], rows: int) -> tuple[Guess, ...]:
    """One column a role at most, and one role a column. Roles without which there is no task come first."""
    guessing = _Guessing({column.name: column for column in columns if column.filled}, rows)
    found = guessing.found
    guessing.by_names("messages", "split")
    # Turns and splits show what they are.
    if "messages" not in found and (turns := guessing.fitting("messages")):
        guessing.take("messages", turns[0].name, "its cells are turns with roles")
    if "split" not in found and (splits := guessing.fitting("split")):
        best = min(splits, key=lambda column: plain_name(column.name) not in SPLIT_COLUMNS)
        guessing.take("split", best.name, "its values are those of splits")
    guessing.by_names(*(("tools",) if "messages" in found else ("text", "label", "answer", "relevant")))
    guessing.by_names("subject", "id", "title", "license", "consent", "collected", "retain_until")
    if "messages" not in found:
        guessing.rest_by_content()
    return tuple(found[role] for role in NAMES if role in found)


def task_of(guesses: Iterable[Guess]) -> str:
    """The kind of task that the guesses fit. An instruction with a response is one to learn, whatever else is told about it."""
    told = {guess.role: plain_name(guess.column) for guess in guesses}
    roles = told.keys()
    if "messages" in roles:
        return "generate"
    if {"text", "label"} <= roles and not (told["text"] in _INSTRUCTIONS and told.get("answer") in NAMES["answer"]):
        return "classify"
    if {"text", "answer"} <= roles:
        return "generate"
    if {"text", "relevant"} <= roles:
        return "rank"
    return "documents" if "text" in roles else "unknown"


class _Guessing:
    """Columns that have no role yet, by name, and the guesses so far, by role."""

    def __init__(self, free: dict[str, ColumnSeen], rows: int) -> None:
        self.free, self.rows, self.found = free, rows, dict[str, Guess]()

    def by_names(self, *roles: str) -> None:
        for role in roles:
            names = {plain_name(name): name for name, column in self.free.items() if self._fits(role, column, named=True)}
            known = next((name for name in NAMES[role] if name in names), None)
            if known is not None and (role != "relevant" or self._asks()):
                self.take(role, names[known], f"it is called {names[known][:40]}")

    def rest_by_content(self) -> None:
        """Where no name helps: the longest texts are the text, few short values are labels; without labels, the first of two columns of
        free texts is the text, and the longest of the others the answer, unless one is called so whose cells are none."""
        texts, free = self.fitting("text"), self._free_texts()
        if "text" not in self.found and texts:
            others = [column for column in self.fitting("label") if column not in free]
            if len(free) > 1 and not others and not self._learns():
                self.take("text", free[0].name, "it is the first of the columns of free texts")
            else:
                longest = max(texts, key=lambda column: column.mean_length)
                self.take("text", longest.name, f"its texts are the longest (mean {longest.mean_length:g} characters)")
        if "text" not in self.found and (title := self.found.pop("title", None)):
            self.found["text"] = Guess(role="text", column=title.column, why=f"{title.why}, and nothing else is a text")
        labels = sorted(self.fitting("label"), key=lambda column: (plain_name(column.name) not in _LIKELY_LABELS, column.labels))
        if labels and not self._learns():
            self.take("label", labels[0].name, f"{labels[0].labels} short values, each many times")
        answers = any(plain_name(column.name) in ("answer", "answers") for column in self.free.values())
        if (free := self._free_texts()) and not self._learns() and "text" in self.found and not answers:
            longest = max(free, key=lambda column: column.mean_length)
            self.take("answer", longest.name, f"its texts differ from row to row (mean {longest.mean_length:g} characters)")

    def take(self, role: str, name: str, why: str) -> None:
        self.found[role] = Guess(role=role, column=name, why=why)
        del self.free[name]

    def _learns(self) -> bool:
        return not self.found.keys().isdisjoint(("label", "answer", "relevant"))

    def _asks(self) -> bool:
        """True when the text is called a query, and nothing else is there to learn."""
        text = self.found.get("text")
        other = any(plain_name(each.name) in NAMES["answer"] and each.may_hold_labels(named=True) for each in self.free.values())
        return text is not None and plain_name(text.column) in _QUERIES and not other and not self._learns()

    def fitting(self, role: str) -> list[ColumnSeen]:
        usual = (column for column in self.free.values() if role == "split" or plain_name(column.name) not in NOT_LEARNED)
        return [column for column in usual if self._fits(role, column, named=False)]

    def _free_texts(self) -> list[ColumnSeen]:
        """Columns whose texts mostly differ from row to row: no labels, no flags."""
        return [column for column in self.fitting("text") if column.mean_length >= 8 and 2 * column.distinct >= min(column.filled, 1000)]

    def _fits(self, role: str, column: ColumnSeen, *, named: bool) -> bool:
        if role == "messages":
            return column.kind == "turns"
        if role == "tools":
            return column.defines_tools
        if role == "split":
            return column.tells_splits
        if role == "label":
            return column.may_hold_labels(named=named)
        if role in ("text", "answer"):
            # Numbers may be answers where they are called so; codes, ids and days are no texts unless they are called so.
            if column.filled < 0.5 * self.rows or (column.kind != "text" and not column.numeric):
                return False
            if column.kind == "number" and column.may_hold_labels(named=False):
                return False
            return (role == "answer" or not column.numeric) if named else not column.codes
        if role == "relevant":
            return column.kind in ("text", "number", "list") and column.filled >= 0.5 * self.rows
        if role == "subject":  # people come again, lines of mails hardly do
            line = plain_name(column.name) == "subject" and 2 * column.distinct >= min(column.filled, _DISTINCT)
            return column.kind in ("text", "number") and column.mean_length <= (_LONGEST_SUBJECT if line else _LONGEST_PERSON)
        return column.kind in ("text", "number")


#: Columns that one remark names; free text is at least so long on average.
_NAMED, _FREE = 6, 24


def remarks(tallies: Mapping[str, ColumnTally], guesses: Sequence[Guess]) -> tuple[str, ...]:
    """What a person should know before these guesses become an objective."""
    seen = [tally.seen() for tally in tallies.values() if tally.filled]
    roles = {guess.role: guess.column for guess in guesses}
    learned = roles.keys() & {"label", "answer", "relevant"}
    free = [column for column in seen if column.name not in roles.values()]
    label, read = tallies.get(roles.get("label", "")), roles.get("text") or roles.get("messages")
    split_anew = [name for name in tallies if plain_name(name) in SPLIT_COLUMNS and name != roles.get("label")]
    more_texts = [
        column.name
        for column in free
        if column.kind == "text" and not column.codes and column.mean_length >= _FREE and 3 * column.distinct >= min(column.filled, 1000)
        if plain_name(column.name) not in NOT_LEARNED
    ]
    many_labels = [
        column.name
        for column in seen
        if plain_name(column.name) in NAMES["label"] and column.kind == "text" and not column.numeric
        if column.longest <= LONGEST_LABEL and not column.may_hold_labels(named=True)
    ]
    found: tuple[tuple[bool, Sequence[str], str], ...] = (
        (True, [column.name for column in seen if column.kind == "mixed"], "cells of several types: write all as texts, or all as lists"),
        (
            True,
            [column.name for column in free if column.kind == "object" or (column.kind == "list" and not column.parts)],
            "objects or lists of them, whose fields are not seen: write them as columns (pandas.json_normalize does) or as text",
        ),
        (
            roles.keys().isdisjoint(("label", "messages")),
            many_labels,
            "too many values, or each too seldom, for labels; if they are labels: --task classify --label COLUMN",
        ),
        (
            sum(column.flags for column in seen) > 1,
            [column.name for column in free if column.flags],
            "0 and 1 alone; if each is a label of its own, name each: --label COLUMN",
        ),
        (
            bool(read and learned),
            more_texts,
            f"not read; where an answer depends on it, too, name each column that is read: --text {str(read)[:40]!r} --text COLUMN",
        ),
        (
            "split" in roles,
            [roles.get("split", "")],
            "says train, dev and test: rows of dev and test stay so, and are never learned from (`split_column`)",
        ),
        (
            "split" not in roles,
            split_anew,
            "not read, rows are split anew: to keep yours, a column `split` says train, dev or test of each",
        ),
        (
            label is not None,
            sorted(label.nothings) if label else (),
            "read as a label; where it stands for no label, delete these rows",
        ),
    )
    notes = [] if read else ["no column holds texts of several words (numbers, codes, days and flags are none): if one does, --text COLUMN"]
    for asked, names, remark in found:
        if asked and names:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            notes.append(f"{', '.join(repr(name[:40]) for name in names[:_NAMED])}{more}: {remark}")
    return tuple(notes)
