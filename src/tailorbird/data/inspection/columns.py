"""Columns of a data file: type of their cells, and probable role of each."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tailorbird.data.inspection.cell_marks import CellMarks
from tailorbird.data.readers.cells import labels_in_text, names_in_list
from tailorbird.data.readers.turns import ROLES, SPEAKER_KEYS, is_turn
from tailorbird.domain.inspection import ColumnSeen, Guess

#: Distinct values counted at most.
DISTINCT = 1000
#: What tells that a list of objects is a conversation: see ``is_turn``.
_SPEAKER = re.compile(
    rf'"(?:{"|".join(SPEAKER_KEYS[:2])})"\s*:|"(?:{"|".join(SPEAKER_KEYS[2:])})"\s*:\s*"(?:{"|".join(ROLES)})"', re.IGNORECASE
)
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
        self._add_tools(cell, kind)
        if len(self.values) < DISTINCT:
            self.values.add(hash(cell if isinstance(cell, str) else str(cell)))
        self._add_parts(parts_of(cell, numbers=plain_name(self.name) in NAMES["label"]))

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
            speakers=self.marks.filled == self.marks.speakers and len(self.values) > 1 and plain_name(self.name) in SPEAKING,
        )


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


#: Names that columns of a role often have, the likeliest first.
NAMES = {
    "messages": ("messages", "conversations", "conversation", "chat", "turns", "dialogue", "dialog", "contents"),
    "tools": ("tools", "functions", "tool_definitions", "available_tools"),
    "text": (
        "text",
        "message",
        "instruction",
        "prompt",
        "question",
        "query",
        "input",
        "sentence",
        "utterance",
        "body",
        "content",
        "document",
        "anchor",
        "review",
        "comment",
        "comment_text",
        "premise",
        "sentence1",
        "description",
        "article",
        "transcript",
    ),
    "label": ("label", "labels", "category", "intent", "class", "topic", "target", "tag", "tags", "sentiment"),
    "answer": ("answer", "response", "output", "completion", "reply", "summary", "chosen", "highlights"),
    "relevant": ("document", "passage", "positive", "page", "relevant", "doc", "doc_id", "docid", "document_id", "corpus_id"),
    "subject": ("subject", "customer", "customer_id", "user", "user_id", "author", "person", "email", "account", "patient", "who"),
    "id": ("id", "_id", "query_id", "doc_id", "docid"),
    "title": ("title", "headline"),
    "license": ("license", "licence"),
    "consent": ("consent", "consent_basis"),
    "collected": ("collected", "collected_at", "created", "created_at", "date"),
    "retain_until": ("retain_until", "retention", "delete_after"),
}
#: What a column of queries is called: the documents beside it are those that answer them.
QUERIES = ("query", "question", "search", "anchor")

#: Columns that tell about a row and are nothing to learn, unless somebody says so.
ABOUT = ("source", "origin", "dataset", "split", "lang", "language", "locale", "channel", "version", "model", "url", "file", "filename")
#: Columns of what is not to be answered.
AGAINST = ("negative", "negatives", "hard_negative", "neg", "rejected", "wrong", "distractor")
#: Columns that say whose turn a row is.
SPEAKING = ("role", "speaker", "sender", "from", "author", "participant")
#: People are named in so many characters on average; a column ``subject`` whose texts are longer holds what a mail is about.
LONGEST_PERSON = 32


def guess_roles(columns: Sequence[ColumnSeen], rows: int) -> tuple[Guess, ...]:
    """One column a role at most, and one role a column. Roles without which there is no task come first."""
    guessing = _Guessing({column.name: column for column in columns if column.filled}, rows)
    guessing.by_names(("messages",))
    if "messages" not in guessing.found:
        guessing.messages_by_content()
    guessing.by_names(("tools",) if "messages" in guessing.found else ("text", "label", "answer", "relevant"))
    guessing.by_names(tuple(role for role in NAMES if role not in ("messages", "tools", "text", "label", "answer", "relevant")))
    if "messages" not in guessing.found:
        guessing.rest_by_content()
    return tuple(guessing.found[role] for role in NAMES if role in guessing.found)


def task_of(guesses: Iterable[Guess]) -> str:
    """The kind of task that the guesses fit."""
    roles = {guess.role for guess in guesses}
    if "messages" in roles:
        return "generate"
    if {"text", "label"} <= roles:
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

    def by_names(self, roles: Iterable[str]) -> None:
        for role in roles:
            names = {plain_name(name): name for name in self.free if self._fits(role, self.free[name], named=True)}
            known = next((name for name in NAMES[role] if name in names), None)
            if known is not None and (role != "relevant" or self._asks()):
                self._take(role, names[known], f"it is called {names[known][:40]}")

    def messages_by_content(self) -> None:
        for column in self._fitting("messages")[:1]:
            self._take("messages", column.name, "its cells are turns with roles")

    def rest_by_content(self) -> None:
        """Where no name helps: the longest texts are the text, few short values are labels; without labels, the first of two columns of
        free texts is the text, and the longest of the others the answer."""
        if "text" not in self.found:
            self._guess_text()
        if not {"label", "answer", "relevant"} & self.found.keys():
            labels = sorted(self._fitting("label"), key=lambda column: column.labels)
            for column in labels[:1]:
                self._take("label", column.name, f"{column.labels} short values, each many times")
        if not {"label", "answer", "relevant"} & self.found.keys() and "text" in self.found:
            for column in sorted(self._free_texts(), key=lambda column: -column.mean_length)[:1]:
                self._take("answer", column.name, f"its texts differ from row to row (mean {column.mean_length:g} characters)")

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
        return text is not None and plain_name(text.column) in QUERIES and not {"label", "answer"} & self.found.keys()

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
        if role == "label":
            return column.may_hold_labels(named=named) and (named or plain_name(column.name) not in ABOUT + AGAINST)
        if role in ("text", "answer"):
            return self._fits_text(role, column, named=named)
        if role == "relevant":
            return column.kind in ("text", "number", "list") and column.filled >= 0.5 * self.rows
        if role == "subject":
            return column.kind in ("text", "number") and column.mean_length <= LONGEST_PERSON
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


def plain_name(name: str) -> str:
    """A column's name as names are compared."""
    return name.strip().casefold().replace("-", "_").replace(" ", "_")
