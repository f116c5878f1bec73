"""Ordinary files, and what each of their columns is taken for: no mend of an odd one may change it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tailorbird.data import inspect_file

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
    "one flag": (lambda n: {"text": said(n), "spam": n % 2}, {"text": "text", "label": "spam"}),
    "a flag beside a label": (
        lambda n: {"review": said(n), "verified": n % 2, "helpful": n % 3 % 2, "gift": n % 5 % 2, "sentiment": kind(n)},
        {"text": "review", "label": "sentiment"},
    ),
    "lists of labels": (lambda n: {"text": said(n), "labels": [kind(n), "urgent"]}, {"text": "text", "label": "labels"}),
    "support tickets": (
        lambda n: {"id": n, "subject": said(n, 4), "body": said(n, 30), "queue": kind(n), "created_at": "2024-03-05"},
        {"text": "body", "label": "queue", "id": "id", "title": "subject", "collected": "created_at"},
    ),
    "title and body": (
        lambda n: {"title": said(n, 4), "body": said(n, 30), "category": kind(n)},
        {"text": "body", "label": "category", "title": "title"},
    ),
    "title and description": (
        lambda n: {"title": said(n, 5), "description": said(n, 18), "label": n % 4},
        {"text": "description", "label": "label", "title": "title"},
    ),
    "a description alone": (
        lambda n: {"id": n, "description": said(n), "type": kind(n)},
        {"text": "description", "label": "type", "id": "id"},
    ),
    "a description and how it ended": (
        lambda n: {"description": said(n, 12), "resolution": said(n + 5, 40), "category": kind(n)},
        {"text": "description", "label": "category"},
    ),
    "a description and notes": (
        lambda n: {"description": said(n, 12), "internal_notes": said(n + 5, 20), "category": kind(n)},
        {"text": "description", "label": "category"},
    ),
    "a comment and what it is about": (
        lambda n: {"label": n % 2, "comment": said(n, 6), "author": f"u{n % 9}", "parent_comment": said(n + 5, 30)},
        {"text": "comment", "label": "label", "subject": "author"},
    ),
    "a question and answers of another form": (
        lambda n: {"question": said(n, 6), "context": said(n + 5, 30), "answers": {"text": [said(n + 9, 2)]}},
        {"text": "question"},
    ),
    "a question and its answer": (
        lambda n: {"question": said(n), "answer": said(n + 5, 20)},
        {"text": "question", "answer": "answer"},
    ),
    "a description and a reply": (
        lambda n: {"description": said(n), "reply": said(n + 5, 30)},
        {"text": "description", "answer": "reply"},
    ),
    "a prompt and a completion": (lambda n: {"prompt": said(n), "completion": said(n + 5)}, {"text": "prompt", "answer": "completion"}),
    "instructions without input": (
        lambda n: {"instruction": said(n), "input": "", "output": said(n + 5, 20)},
        {"text": "instruction", "answer": "output"},
    ),
    "an article and its summary": (
        lambda n: {"article": said(n, 60), "highlights": said(n, 9)},
        {"text": "article", "answer": "highlights"},
    ),
    "queries and passages": (
        lambda n: {"query": said(n, 5), "passage": said(n + 5, 30)},
        {"text": "query", "relevant": "passage"},
    ),
    "triples": (
        lambda n: {"anchor": said(n, 5), "positive": said(n + 5, 30), "negative": said(n + 9, 30)},
        {"text": "anchor", "relevant": "positive"},
    ),
    "conversations": (lambda n: {"id": n, "messages": turns(n)}, {"messages": "messages", "id": "id"}),
    "conversations of another name": (lambda n: {"dialog": turns(n), "topic": kind(n)}, {"messages": "dialog"}),
    "no names that tell": (lambda n: {"a": n, "b": said(n), "c": kind(n)}, {"text": "b", "label": "c"}),
    "two texts without names": (lambda n: {"q": said(n, 5), "a": said(n + 5, 20)}, {"text": "q", "answer": "a"}),
    "a split of letters": (lambda n: {"text": said(n), "label": kind(n), "split": "AB"[n % 2]}, {"text": "text", "label": "label"}),
    "labels that are splits": (lambda n: {"text": said(n), "label": ("train", "test")[n % 2]}, {"text": "text", "label": "label"}),
    "departments": (
        lambda n: {"text": said(n), "department": ("Training", "Development", "Evaluation")[n % 3]},
        {"text": "text", "label": "department"},
    ),
    "stages": (lambda n: {"text": said(n), "stage": ("development", "testing")[n % 2]}, {"text": "text", "label": "stage"}),
    "types that are splits beside a label": (
        lambda n: {"text": said(n), "type": ("train", "test")[n % 2], "label": kind(n)},
        {"text": "text", "label": "label", "split": "type"},
    ),
    "people of long names": (
        lambda n: {"subject": ("Anna-Maria Schmidt-Lehmann", "Abdul Rahman al-Hashimi")[n % 2], "text": said(n, 15), "label": kind(n)},
        {"text": "text", "label": "label", "subject": "subject"},
    ),
    "trains and buses": (lambda n: {"text": said(n), "vehicle": ("train", "bus", "tram")[n % 3]}, {"text": "text", "label": "vehicle"}),
    "a person and a licence": (
        lambda n: {"text": said(n), "label": kind(n), "customer_id": n // 3, "licence": "MIT"},
        {"text": "text", "label": "label", "subject": "customer_id", "license": "licence"},
    ),
    "documents": (lambda n: {"id": f"d{n}", "title": said(n, 4), "text": said(n, 60)}, {"text": "text", "id": "id", "title": "title"}),
    "an e-mail in lines": (
        lambda n: {"from": f"ann{n % 9}@example.com", "subject": said(n, 9), "body": said(n, 30), "folder": kind(n)},
        {"text": "body", "label": "folder", "title": "subject"},
    ),
    "titles alone": (lambda n: {"title": said(n, 6), "category": kind(n)}, {"text": "title", "label": "category"}),
    "headlines alone": (
        lambda n: {"headline": said(n, 8), "is_sarcastic": n % 2, "link": f"https://example.com/{n}"},
        {"text": "headline", "label": "is_sarcastic"},
    ),
    "reviews with counts": (
        lambda n: {"stars": n % 5 + 1.0, "useful": n % 3, "funny": n % 2, "text": said(n, 20)},
        {"text": "text", "label": "stars"},
    ),
    "choices": (
        lambda n: {"question": said(n, 6), "choices": ["red", "green", "blue", "grey"], "answer": n % 4},
        {"text": "question", "label": "answer"},
    ),
    "numbers to predict": (lambda n: {"text": said(n), "price": n * 1.5}, {"text": "text"}),
    "offers of a shop": (
        lambda n: {
            "name": said(n, 3),
            "description": said(n, 20),
            "category": kind(n),
            "price": n * 1.5,
            "in_stock": n % 2,
            "sale": n % 3 % 2,
        },
        {"text": "description", "label": "category"},
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_the_columns_of_ordinary_files_are_taken_for_what_they_are(tmp_path: Path, name: str) -> None:
    make, expected = FILES[name]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(make(n)) + "\n" for n in range(60)))
    found = inspect_file("d.jsonl", tmp_path, lambda _: None)
    assert {guess.role: guess.column for guess in found.guesses} == expected
