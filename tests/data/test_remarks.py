"""What inspection guesses of columns as people really write them, and what it remarks on."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tailorbird.data import inspect_file
from tailorbird.data.columns import MOST_CELLS
from tailorbird.domain.dataset import Inspection
from tailorbird.domain.errors import DataInvalid

KINDS = ("billing", "delivery", "login")


def messages(count: int = 60) -> list[tuple[str, str]]:
    return [
        (f"{('invoice', 'parcel', 'account')[n % 3]} {n * 7919 % 9973} is not as I asked, please look", KINDS[n % 3]) for n in range(count)
    ]


def as_csv(header: list[str], rows: list[list[object]]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows([header, *rows])
    return out.getvalue()


def looked_at(folder: Path, text: str, name: str = "d.csv") -> Inspection:
    (folder / name).write_text(text, encoding="utf-8")
    return inspect_file(name, folder, lambda _: None)


def roles(found: Inspection) -> dict[str, str]:
    return {guess.role: guess.column for guess in found.guesses}


@pytest.mark.parametrize(
    "column",
    [
        ["3.25", "17", "-1,5", "2e9"],
        ["2024-01-01", "2024-02-01 10:00:00"],
        ["9f2c-44aa-b1", "77de-1200-ff"],
        ["https://example.com/a/very/long/address/of/a/page.html"],
        ["yes", "no"],
    ],
)
def test_numbers_days_codes_and_flags_are_no_texts(tmp_path: Path, column: list[str]) -> None:
    rows: list[list[object]] = [[f"{column[n % len(column)]}", n % 2] for n in range(60)]
    found = looked_at(tmp_path, as_csv(["a", "b"], rows))
    assert "text" not in roles(found)
    assert "no column holds texts of several words" in "\n".join(found.notes)


def test_negatives_are_no_answers(tmp_path: Path) -> None:
    rows: list[list[object]] = [
        [f"{text}?", f"answer to {text}", f"nothing about it, {n * 31} times over"] for n, (text, _) in enumerate(messages())
    ]
    assert roles(looked_at(tmp_path, as_csv(["anchor", "positive", "negative"], rows))) == {"text": "anchor", "relevant": "positive"}
    assert roles(looked_at(tmp_path, as_csv(["prompt", "rejected", "chosen"], rows))) == {"text": "prompt", "answer": "chosen"}


def test_lists_as_python_prints_them_hold_several_labels(tmp_path: Path) -> None:
    rows: list[list[object]] = [[text, str([label, "urgent"] if n % 2 else [label])] for n, (text, label) in enumerate(messages())]
    label = next(column for column in looked_at(tmp_path, as_csv(["text", "tags"], rows)).columns if column.name == "tags")
    assert (label.kind, label.holds_several, label.labels) == ("list", True, 4)


@pytest.mark.parametrize(
    ("header", "cells", "remark"),
    [
        (["text", "label"], lambda n, text, label: [text, "NaN" if n % 3 else label], "'NaN': read as a label"),
        (["premise", "hypothesis", "label"], lambda n, text, label: [text, text[::-1], label], "'hypothesis': not read; where an answer"),
        (
            ["text", "label", "split"],
            lambda n, text, label: [text, label, ("train", "test")[n % 2]],
            "'split': says train, dev and test",
        ),
        (
            ["text", "toxic", "threat", "insult"],
            lambda n, text, label: [text, n % 2, n % 3 % 2, n % 5 % 2],
            "'threat', 'insult': 0 and 1 alone",
        ),
        (["text", "x", "y", "label"], lambda n, text, label: [text, n % 2, n % 3 % 2, label], "'x', 'y': 0 and 1 alone"),
        (
            ["text", "label", "split"],
            lambda n, text, label: [text, label, "train"],
            "'split': not read, rows are split anew",
        ),
    ],
)
def test_what_may_be_meant_otherwise_is_remarked_on(tmp_path: Path, header: list[str], cells: object, remark: str) -> None:
    rows: list[list[object]] = [cells(n, text, label) for n, (text, label) in enumerate(messages())]  # type: ignore[operator]
    assert remark in "\n".join(looked_at(tmp_path, as_csv(header, rows)).notes)


def test_clean_data_are_not_remarked_on(tmp_path: Path) -> None:
    rows: list[list[object]] = [[n, text, label, f"Ann {n % 9}", "2024-01-01"] for n, (text, label) in enumerate(messages())]
    assert looked_at(tmp_path, as_csv(["", "message", "category", "customer", "created_at"], rows)).notes == ()


def test_fields_of_objects_are_said_not_to_be_seen(tmp_path: Path) -> None:
    lines = [json.dumps({"id": n, "ticket": {"body": text}}) for n, (text, _) in enumerate(messages())]
    assert "'ticket': objects" in "\n".join(looked_at(tmp_path, "\n".join(lines), "d.jsonl").notes)


@pytest.mark.parametrize(
    ("name", "text", "hint"),
    [
        ("d.csv", "Export of 2024\n\nid,text,label\n" + "1,x,a\n" * 9, "names the columns"),
        ("d.jsonl", json.dumps([{"text": "x", "label": "a"}]), "one object a line"),
        ("d.jsonl", '{"text": "x", "score": NaN}\n' * 9, "without NaN"),
    ],
)
def test_a_file_of_which_nothing_can_be_read_says_why(tmp_path: Path, name: str, text: str, hint: str) -> None:
    with pytest.raises(DataInvalid) as caught:
        looked_at(tmp_path, text, name)
    assert caught.value.error_code == "data_invalid"
    assert hint in caught.value.hint


def test_a_title_or_a_sum_does_not_hide_the_separator(tmp_path: Path) -> None:
    rows = "".join(f"{n};{text};{label}\n" for n, (text, label) in enumerate(messages(), start=1))
    found = looked_at(tmp_path, f"id;message;category\n{rows}".replace("30;", "30;;", 1) + "sum, of all\n")
    assert (found.separator, found.unusable) == (";", {"wrong_cell_count": 2})


def test_a_long_column_is_told_by_its_first_cells(tmp_path: Path) -> None:
    """To look closely at every cell took six times as long as to read it."""
    rows: list[list[object]] = [[text, n] for n, (text, _) in enumerate(messages(MOST_CELLS + 100))]
    found = looked_at(tmp_path, as_csv(["text", "price"], [*rows, ["one more", "none of them"]]))
    assert {column.name: (column.numeric, column.codes) for column in found.columns} == {"text": (False, False), "price": (True, True)}


def as_jsonl(rows: list[dict[str, object]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_conversations_as_text_in_a_cell_are_turns(tmp_path: Path) -> None:
    chats = [
        json.dumps([{"role": "user", "content": text}, {"role": "assistant", "content": f"about {kind}"}]) for text, kind in messages()
    ]
    found = looked_at(tmp_path, as_csv(["messages"], [[chat] for chat in chats]))
    assert roles(found) == {"messages": "messages"}


@pytest.mark.parametrize(
    "extra", [{"comments": [{"author": "Bob", "text": "me too"}]}, {"spans": [12, 40]}, {"authors": [{"author": "B"}]}]
)
def test_other_lists_are_neither_turns_nor_labels(tmp_path: Path, extra: dict[str, object]) -> None:
    found = looked_at(tmp_path, as_jsonl([{"text": text, "label": kind} | extra for text, kind in messages()]), "d.jsonl")
    assert found.task == "classify"
    assert {"text": "text", "label": "label"}.items() <= roles(found).items()


def test_numbers_of_answers_are_labels(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"question": text, "answer": number % 4} for number, (text, _) in enumerate(messages(400))]
    assert looked_at(tmp_path, as_jsonl(rows), "d.jsonl").task == "classify"


def test_a_faulty_line_does_not_change_the_separator(tmp_path: Path) -> None:
    lines = [f"{text.replace(',', '')},a|b|c" for text, _ in messages()]
    lines[5] = "a line, with, too many"
    assert roles(looked_at(tmp_path, "\n".join(["text,labels", *lines])))["text"] == "text"


@pytest.mark.parametrize("cell", ["1" + " " * 50_000 + "x", "['a'" + " " * 50_000, "-\n" * 50_000, "1" * 50_000 + "x"])
def test_odd_cells_are_looked_at_at_once(tmp_path: Path, cell: str) -> None:
    """In the confined process, whose time ends."""
    rows: list[dict[str, object]] = [{"text": text, "label": kind, "odd": cell} for text, kind in messages()]
    assert looked_at(tmp_path, as_jsonl(rows), "d.jsonl").task == "classify"


@pytest.mark.parametrize(
    ("row", "remark"),
    [
        (lambda n, text: {"name": f"page {n}", "paragraphs": [{"context": text, "qas": []}]}, "'paragraphs': objects or lists of them"),
        (lambda n, text: {"text": text, "label": [[0, 5, "PER"]]}, "'label': objects or lists of them"),
        (lambda n, text: {"text": text, "label": f"intent {n}"}, "'label': too many values, or each too seldom, for labels"),
    ],
)
def test_what_is_not_read_is_named(tmp_path: Path, row: Callable[[int, str], dict[str, object]], remark: str) -> None:
    rows = [row(n, text) for n, (text, _) in enumerate(messages())]
    assert remark in "\n".join(looked_at(tmp_path, as_jsonl(rows), "d.jsonl").notes)


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        (lambda n, text, kind: {"x": text, "type": kind}, {"text": "x", "label": "type"}),
        (lambda n, text, kind: {"text": text, "label": n % 3, "label_text": kind}, {"text": "text", "label": "label"}),
        (lambda n, text, kind: {"question": text, "passage": text * 3, "answer": n % 2 == 0}, {"text": "question", "label": "answer"}),
        (lambda n, text, kind: {"Frage": text, "Antwort": f"so ist es {n * 7919}"}, {"text": "Frage", "answer": "Antwort"}),
        (lambda n, text, kind: {"id": n, "文本": text, "标签": kind}, {"id": "id", "text": "文本", "label": "标签"}),
        (
            lambda n, text, kind: {"rejected": [{"role": "user", "content": text}], "chosen": [{"role": "user", "content": text}]},
            {"messages": "chosen"},
        ),
    ],
)
def test_names_are_a_hint_and_cells_decide(
    tmp_path: Path, row: Callable[[int, str, str], dict[str, object]], columns: dict[str, str]
) -> None:
    rows = [row(n, text, kind) for n, (text, kind) in enumerate(messages())]
    assert roles(looked_at(tmp_path, as_jsonl(rows), "d.jsonl")) == columns


def test_an_instruction_with_a_response_is_one_to_learn(tmp_path: Path) -> None:
    rows = [{"instruction": text, "context": "", "response": text[::-1], "category": kind} for text, kind in messages()]
    found = looked_at(tmp_path, as_jsonl(rows), "d.jsonl")
    assert (found.task, "label: response" in found.proposal) == ("generate", True)
