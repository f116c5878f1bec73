"""Inspection of a data file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.data import make_objective
from support.tools import TOOLS
from tailorbird.data import SourceRows, inspect_file, read_sources
from tailorbird.domain.dataset import Inspection

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and", "runs", "home"]


def rows(count: int = 60) -> list[dict[str, str]]:
    return [{"text": f"{WORDS[n % 12]} {WORDS[n * 7 % 12]} number {n * n}", "label": "ab"[n % 2]} for n in range(count)]


def csv_of(separator: str = ",", count: int = 60) -> str:
    return f"text{separator}label\n" + "".join(f"{row['text']}{separator}{row['label']}\n" for row in rows(count))


def read(folder: Path, name: str, content: bytes, **source: str) -> SourceRows:
    (folder / name).write_bytes(content)
    return read_sources(make_objective({"path": name, **source}), folder)


def looked_at(folder: Path, name: str, content: bytes) -> Inspection:
    (folder / name).write_bytes(content)
    return inspect_file(name, folder, lambda _: None)


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-16-le", "utf-32", "utf-8-sig"])
def test_other_encodings_are_told_and_then_read(tmp_path: Path, encoding: str) -> None:
    text = csv_of() + "café – “über”,a\n"
    found = looked_at(tmp_path, "d.csv", text.encode(encoding))
    assert found.encoding == {"utf-8-sig": "utf-8"}.get(encoding, encoding)
    assert found.rows == 61
    read_back = read(tmp_path, "d.csv", text.encode(encoding), encoding=found.encoding or "")
    assert read_back.rows[-1].text == text.splitlines()[-1].rpartition(",")[0]
    assert read_back.rows[0].text == rows()[0]["text"]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators_are_told_and_then_read(tmp_path: Path, separator: str) -> None:
    found = looked_at(tmp_path, "d.csv", csv_of(separator).encode())
    assert (found.separator, [column.name for column in found.columns]) == (separator, ["text", "label"])
    assert len(read(tmp_path, "d.csv", csv_of(separator).encode(), separator=separator).rows) == 60


def test_columns_are_guessed_and_shown_never_assumed(tmp_path: Path) -> None:
    people = [row | {"customer_id": n // 3, "note": "", "licence": "MIT"} for n, row in enumerate(rows())]
    found = looked_at(tmp_path, "d.jsonl", "".join(json.dumps(row) + "\n" for row in people).encode())
    assert {guess.role: guess.column for guess in found.guesses} == {
        "text": "text",
        "label": "label",
        "subject": "customer_id",
        "license": "licence",
    }
    assert found.task == "classify"
    assert "FILL IN: whose data it is" in found.proposal
    assert rows()[3]["text"] not in found.model_dump_json()


def test_what_has_no_telling_names_is_guessed_by_its_content(tmp_path: Path) -> None:
    text = "".join(f"{row['text']}\t{row['label']}\n" for row in [{"text": "q", "label": "kind"}, *rows()])
    found = looked_at(tmp_path, "d.tsv", text.encode())
    assert {guess.role: guess.column for guess in found.guesses} == {"text": "q", "label": "kind"}
    chats = "".join(
        json.dumps({"c": [{"role": "user", "content": "x"}, {"role": "assistant", "content": str(n)}]}) + "\n" for n in range(9)
    )
    talk = looked_at(tmp_path, "d.jsonl", chats.encode())
    assert (talk.task, [(guess.role, guess.column) for guess in talk.guesses]) == ("generate", [("messages", "c")])


@pytest.mark.parametrize(
    ("cells", "are_tools"),
    [
        ([TOOLS, []], True),
        ([json.dumps(TOOLS), "[]"], True),
        ([[{"name": "f", "description": "d"}], json.dumps([{"name": "f", "description": "d"}])], True),
        ([TOOLS, None, ""], True),
        ([["hammer", "saw"], ["drill"]], False),
        ([["hammer", "saw"], []], False),
        ([[], []], False),
        (["[]", None], False),
        ([TOOLS, ["hammer"]], False),
        ([TOOLS, "hammer and saw"], False),
        ([TOOLS, {"name": "hammer"}], False),
    ],
)
@pytest.mark.parametrize("name", ["tools", "functions"])
def test_tools_are_guessed_where_cells_define_them(tmp_path: Path, name: str, cells: list[object], are_tools: bool) -> None:
    """Lists of other things are often called so, of a workshop or of a person."""
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    lines = [json.dumps({"messages": turns, name: cells[n % len(cells)]}) for n in range(60)]
    found = looked_at(tmp_path, "d.jsonl", "\n".join(lines).encode())
    assert {guess.role: guess.column for guess in found.guesses} == {"messages": "messages"} | ({"tools": name} if are_tools else {})
