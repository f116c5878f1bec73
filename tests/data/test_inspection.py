"""Inspection of a data file: what its columns are taken for, what is remarked on, and how it is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.data import make_objective
from support.tools import TOOLS
from tailorbird.data import inspect_file, read_sources
from tailorbird.domain.dataset import Inspection
from tailorbird.domain.errors import DataInvalid

WORDS = ("invoice", "parcel", "account", "refund", "driver", "password", "late", "broken", "again", "please", "today", "never", "why")


def said(n: int, words: int = 9) -> str:
    """Words that differ from row to row."""
    return " ".join(f"{WORDS[n * (place + 3) % 13]}{n * 31 % 997 if place % 4 == 1 else ''}" for place in range(words))


def kind(n: int) -> str:
    return ("billing", "delivery", "login")[n % 3]


def turns(n: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": said(n)}, {"role": "assistant", "content": said(n + 7)}]


Make = Callable[[int], dict[str, Any]]
#: A row of each file, and what its columns are then.
FILES: dict[str, tuple[Make, dict[str, str]]] = {
    "text, label": (lambda n: {"text": said(n), "label": kind(n)}, {"text": "text", "label": "label"}),
    "numbers as labels": (lambda n: {"text": said(n), "label": n % 5}, {"text": "text", "label": "label"}),
    "a flag beside a label": (
        lambda n: {"review": said(n), "verified": n % 2, "helpful": n % 3 % 2, "gift": n % 5 % 2, "sentiment": kind(n)},
        {"text": "review", "label": "sentiment"},
    ),
    "lists of labels": (lambda n: {"text": said(n), "labels": [kind(n), "urgent"]}, {"text": "text", "label": "labels"}),
    "support tickets": (
        lambda n: {"id": n, "subject": said(n, 4), "body": said(n, 30), "queue": kind(n), "created_at": "2024-03-05"},
        {"text": "body", "label": "queue", "id": "id", "title": "subject", "collected": "created_at"},
    ),
    "a description and how it ended": (
        lambda n: {"description": said(n, 12), "resolution": said(n + 5, 40), "category": kind(n)},
        {"text": "description", "label": "category"},
    ),
    "a question and its answer": (
        lambda n: {"question": said(n), "answer": said(n + 5, 20)},
        {"text": "question", "answer": "answer"},
    ),
    "instructions without input": (
        lambda n: {"instruction": said(n), "input": "", "output": said(n + 5, 20)},
        {"text": "instruction", "answer": "output"},
    ),
    "queries and passages": (
        lambda n: {"query": said(n, 5), "passage": said(n + 5, 30)},
        {"text": "query", "relevant": "passage"},
    ),
    "conversations": (lambda n: {"id": n, "messages": turns(n)}, {"messages": "messages", "id": "id"}),
    "no names that tell": (lambda n: {"a": n, "b": said(n), "c": kind(n)}, {"text": "b", "label": "c"}),
    "labels that are splits": (lambda n: {"text": said(n), "label": ("train", "test")[n % 2]}, {"text": "text", "label": "label"}),
    "people of long names": (
        lambda n: {"subject": ("Anna-Maria Schmidt-Lehmann", "Abdul Rahman al-Hashimi")[n % 2], "text": said(n, 15), "label": kind(n)},
        {"text": "text", "label": "label", "subject": "subject"},
    ),
    "a person and a licence": (
        lambda n: {"text": said(n), "label": kind(n), "customer_id": n // 3, "licence": "MIT"},
        {"text": "text", "label": "label", "subject": "customer_id", "license": "licence"},
    ),
    "documents": (lambda n: {"id": f"d{n}", "title": said(n, 4), "text": said(n, 60)}, {"text": "text", "id": "id", "title": "title"}),
    "numbers to predict": (lambda n: {"text": said(n), "price": n * 1.5}, {"text": "text"}),
}


def looked_at(folder: Path, make: Make) -> Inspection:
    """A file of sixty rows, inspected."""
    (folder / "d.jsonl").write_text("".join(json.dumps(make(n)) + "\n" for n in range(60)))
    return inspect_file("d.jsonl", folder, lambda _: None)


def roles(found: Inspection) -> dict[str, str]:
    return {guess.role: guess.column for guess in found.guesses}


def test_the_columns_of_ordinary_files_are_taken_for_what_they_are(tmp_path: Path) -> None:
    assert {name: roles(looked_at(tmp_path, make)) for name, (make, _) in FILES.items()} == {
        name: told for name, (_, told) in FILES.items()
    }


@pytest.mark.parametrize(
    "encoding",
    [
        "cp1252",
        "utf-16-le",
    ],
)
def test_other_encodings_are_told_and_then_read(tmp_path: Path, encoding: str) -> None:
    text = "text;label\n" + "".join(f"{said(n)};{kind(n)}\n" for n in range(60)) + "café – “über”;a\n"
    (tmp_path / "d.csv").write_bytes(text.encode(encoding))
    found = inspect_file("d.csv", tmp_path, lambda _: None)
    assert (found.encoding, found.separator, found.rows) == (encoding.removesuffix("-sig"), ";", 61)
    rows = read_sources(make_objective({"path": "d.csv", "encoding": found.encoding, "separator": ";"}), tmp_path).rows
    assert (rows[0].text, rows[-1].text) == (said(0), "café – “über”")


def test_columns_are_guessed_and_shown_never_assumed(tmp_path: Path) -> None:
    found = looked_at(tmp_path, FILES["a person and a licence"][0])
    assert found.task == "classify"
    assert "FILL IN: whose data it is" in found.proposal
    assert said(3) not in found.model_dump_json()


@pytest.mark.parametrize(
    ("cells", "are_tools"),
    [
        ([TOOLS, []], True),
        ([["hammer"], []], False),
        ([TOOLS, "hammer"], False),
    ],
)
def test_tools_are_guessed_where_cells_define_them(tmp_path: Path, cells: list[object], are_tools: bool) -> None:
    """Lists of other things are often called so, of a workshop or of a person."""
    found = looked_at(tmp_path, lambda n: {"messages": turns(n), "tools": cells[n % len(cells)]})
    assert ("tools" in roles(found)) is are_tools


def test_what_may_be_meant_otherwise_is_remarked_on_and_clean_data_are_not(tmp_path: Path) -> None:
    plain: Make = lambda n: {"message": said(n), "category": kind(n), "customer": f"Ann {n % 9}", "created_at": "2024-01-01"}  # noqa: E731
    assert looked_at(tmp_path, plain).notes == ()
    for more in (lambda n: {"category": "NaN" if n % 3 else kind(n)}, lambda n: {"split": ("train", "test")[n % 2]}):
        assert looked_at(tmp_path, lambda n, more=more: plain(n) | more(n)).notes


@pytest.mark.parametrize(
    ("name", "text"), [("d.csv", "Export of 2024\n\nid,text,label\n" + "1,x,a\n" * 9), ("d.jsonl", json.dumps([{"text": "x"}]))]
)
def test_a_file_of_which_nothing_can_be_read_is_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataInvalid) as caught:
        inspect_file(name, tmp_path, lambda _: None)
    assert (caught.value.error_code, bool(caught.value.hint)) == ("data_invalid", True)


@pytest.mark.parametrize("cell", ["1" + " " * 50_000 + "x", "['a'" + " " * 50_000])
def test_odd_cells_are_looked_at_at_once(tmp_path: Path, cell: str) -> None:
    """In the confined process, whose time ends."""
    assert looked_at(tmp_path, lambda n: {"text": said(n), "label": kind(n), "odd": cell}).task == "classify"
