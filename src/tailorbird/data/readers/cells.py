"""Cells of a record as a row's text, label or answer, set of labels, and subject."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import PurePosixPath
from typing import Any

from tailorbird.data.readers.data_file import Record
from tailorbird.domain.dataset import Split
from tailorbird.domain.errors import DataInvalid, InvalidInput
from tailorbird.text import label_rules

#: A list of texts as Python prints it, and one of its texts.
_QUOTED = r"""(?:'[^'\\]*(?:\\.[^'\\]*)*'|"[^"\\]*(?:\\.[^"\\]*)*")"""
_PRINTED = re.compile(rf"\s*\[\s*(?:{_QUOTED}(?:\s*,\s*{_QUOTED})*(?:\s*,)?\s*)?\]\s*", re.DOTALL)
_TEXT = re.compile(_QUOTED, re.DOTALL)


class UnusableRecord(Exception):
    """A record that cannot become a row: code and reason, without its text."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def text_cell(record: Record, role: str, column: str, *, numbers: bool = False) -> str:
    """The text in ``column``, which plays ``role``; with ``numbers`` also that of a number. Raises Unusable when there is none, or only
    white space."""
    value = record.cells.get(column)
    if numbers and isinstance(value, int | float) and not isinstance(value, bool):
        value = _without_float(value)
        value = None if value is None else str(value)
    if value is None:
        raise UnusableRecord("missing_cell", f"there is no {role} (column {column!r})")
    if not isinstance(value, str):
        raise UnusableRecord("wrong_type", f"the {role} (column {column!r}) {_instead_of(value, role)}")
    if not value.strip():
        raise UnusableRecord(f"empty_{role}", f"the {role} (column {column!r}) is empty")
    if not is_unicode(value):
        raise UnusableRecord("broken_text", f"the {role} (column {column!r}) holds bytes that are no UTF-8, or half of a character")
    return value


def _instead_of(value: Any, role: str) -> str:
    """What a cell is that is no text, and what is to be written in its place."""
    if isinstance(value, dict):
        return "is an object, and not a text: write it as one, as it is to be read or answered (json.dumps does)"
    if isinstance(value, list) and role == "label":
        return "is a list, and not a text: write the answer that is to be learned, one of several right ones, or the list as a JSON text"
    if isinstance(value, list):
        return "is a list, and not a text: write its items as one"
    if isinstance(value, float | date) and role == "label":
        kind = "a number with a fraction" if isinstance(value, float) else "a day or a time"
        return f"is {kind}, and not a text: write it as one; of what is measured, a few ranges are labels, and not each value"
    return "is not a text"


def _without_float(value: Any) -> Any:
    """Data frames write the whole numbers of a column with empty cells as 12.0, and its empty cells as a number that is none."""
    if not isinstance(value, float):
        return value
    if value != value:
        return None
    return int(value) if abs(value) < 2**53 and value == int(value) else value


def labels_cell(record: Record, file: str, column: str) -> str:
    """Several labels, joined: from a list, a text that is a JSON list, or a text with ``|`` between; ``none`` or ``[]`` for no label.

    An empty cell is no row without labels but one that nobody labelled: raises Unusable. Raises DataInvalid for a label that cannot be
    told from the text around it (``label_rules.check``): that is no slip of one row.
    """
    labels = [label.strip() for label in _labels(record, column)]
    if not all(labels):
        raise UnusableRecord("empty_label", f"one of the labels (column {column!r}) is empty")
    try:
        return label_rules.join(labels)
    except InvalidInput as error:
        raise DataInvalid(f"{file}:{record.line}: {error.message}", error.hint, code=error.error_code) from error


def _labels(record: Record, column: str) -> list[str]:
    value = record.cells.get(column)
    if not isinstance(value, list):
        text = text_cell(record, "label", column)
        if text.strip() == label_rules.NONE:
            return []
        if not text.lstrip().startswith("["):
            return text.split(label_rules.SEPARATOR)
        value = labels_in_text(text)
        if value is None:
            reason = f"the labels (column {column!r}) begin like a list, but are none of texts or whole numbers"
            raise UnusableRecord("wrong_type", reason)
    labels = names_in_list(value)
    if labels is None:
        raise UnusableRecord("wrong_type", f"the labels (column {column!r}) are a list, but not one of texts or whole numbers")
    if not all(is_unicode(label) for label in labels):
        raise UnusableRecord("broken_text", f"one of the labels (column {column!r}) holds bytes that are no UTF-8, or half of a character")
    return labels


#: How a cell says that a label is its row's, or that it is not.
_YES, _NO = frozenset({"1", "1.0", "true", "yes", "y", "x"}), frozenset({"0", "0.0", "false", "no", "n"})


def flagged_cells(record: Record, file: str, columns: tuple[str, ...]) -> tuple[str, ...]:
    """Those of ``columns`` that the record has as labels. Raises Unusable for a cell that is neither 1 nor 0; DataInvalid as
    ``labels_cell``."""
    found = tuple(column.strip() for column in columns if _is_set(record, column))
    try:
        label_rules.join(found)
    except InvalidInput as error:
        raise DataInvalid(f"{file}: {error.message}", error.hint, code=error.error_code) from error
    return found


def _is_set(record: Record, column: str) -> bool:
    said = name_cell(record, "label", column).casefold()
    if said not in _YES | _NO:
        raise UnusableRecord("wrong_type", f"the cell of a label (column {column!r}) is neither 1 nor 0, nor true or false")
    return said in _YES


def texts_cell(record: Record, columns: tuple[str, ...]) -> str:
    """The texts in ``columns``, joined by a blank line, without empty ones. Raises Unusable where all are empty, or one is no text."""
    texts = [record.cells.get(column) for column in columns]
    filled = [column for column, text in zip(columns, texts, strict=True) if text is not None and text == text and str(text).strip()]
    parts = [text_cell(record, "text", column, numbers=True) for column in filled or columns[:1]]
    return "\n\n".join(parts)


def labels_in_text(text: str) -> list[str] | None:
    """The labels of a list in ``text``, as JSON or as Python prints one; None where there is no list of texts or whole numbers."""
    if not text.lstrip().startswith("["):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return _printed_list(text)
    return names_in_list(value)


def names_in_list(value: Any) -> list[str] | None:
    """The items of a list of texts and whole numbers, as texts; None for anything else."""
    if not isinstance(value, list) or not all(isinstance(item, str | int) and not isinstance(item, bool) for item in value):
        return None
    return [str(item) for item in value]


def _printed_list(text: str) -> list[str] | None:
    """Python prints a letter as it is, and a backslash before a quote or a backslash."""
    if _PRINTED.fullmatch(text) is None:
        return None
    return [re.sub(r"\\(['\"\\])", r"\1", quoted[1:-1]) for quoted in _TEXT.findall(text)]


def subject_cell(record: Record, column: str | None) -> str | None:
    """The subject in ``column``; an empty one is none. Numbers are taken: subjects are often numbered. Raises Unusable for others."""
    value = _without_float(record.cells.get(column)) if column else None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if not isinstance(value, str) or not is_unicode(value):
        raise UnusableRecord("wrong_type", f"the subject (column {column!r}) is neither a text nor a whole number")
    return value.strip()


def name_cell(record: Record, role: str, column: str) -> str:
    """The name in ``column``: a text, a whole number or a truth value, without outer white space. Raises UnusableRecord."""
    value = _without_float(record.cells.get(column))
    if isinstance(value, bool):
        return str(value).lower()
    return text_cell(record, role, column, numbers=not isinstance(value, float)).strip()


def groups_cell(record: Record, column: str) -> tuple[str, ...]:
    """Groups in ``column``: a list, or a text with ``|`` between them, sorted. An empty cell: nobody. Raises UnusableRecord."""
    value = record.cells.get(column)
    if isinstance(value, str):
        value = value.split("|")
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(group, str) and is_unicode(group) for group in value):
        raise UnusableRecord("wrong_type", f"the groups (column {column!r}) are no texts")
    return tuple(sorted({group.strip() for group in value if group.strip()}))


def term_cell(record: Record, column: str | None) -> str:
    """What ``column`` states of the terms of use, as text; empty where nothing is stated. Raises Unusable for what is no text or number."""
    value = _without_float(record.cells.get(column)) if column else None
    if value is None:
        return ""
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bool) or not isinstance(value, str | int) or not is_unicode(str(value)):
        raise UnusableRecord("wrong_type", f"the terms (column {column!r}) are neither a text nor a number")
    return str(value).strip()


def shift_cell(record: Record, column: str) -> str:
    """What ``column``, which rows are split by, holds: a text, a number or a time, as text. Raises Unusable where there is nothing."""
    value = _without_float(record.cells.get(column))
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bool) or not isinstance(value, str | int | None) or not is_unicode(str(value)):
        raise UnusableRecord("wrong_type", f"what rows are split by (column {column!r}) is neither a text nor a whole number nor a time")
    if value is None or not str(value).strip():
        raise UnusableRecord("missing_cell", f"there is nothing to split by (column {column!r})")
    return str(value).strip()


def date_cell(record: Record, column: str | None) -> date | None:
    """The day in ``column``; None where there is none. Raises Unusable for what is no day: nobody guesses how long data may be kept."""
    stated = term_cell(record, column)
    try:
        return date.fromisoformat(stated[:10]) if stated else None
    except ValueError as error:
        raise UnusableRecord("bad_date", f"the day (column {column!r}) is not written YYYY-MM-DD") from error


def is_unicode(value: str) -> bool:
    """True when the text can be written as UTF-8: it holds no half of a character."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


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
