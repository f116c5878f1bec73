"""The example of enterprise search: its files are what its card says, and its objectives can be read."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tailorbird.domain.ladder import RungKind
from tailorbird.domain.objective import TaskKind
from tailorbird.objective import read_objective

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "enterprise_search"
GROUPS = {"everyone", "fleet", "finance", "people", "board"}


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (EXAMPLE / name).read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def documents() -> dict[str, dict[str, Any]]:
    listed = lines("documents.jsonl")
    found = {document["id"]: document for document in listed}
    assert len(found) == len(listed)
    return found


@pytest.fixture(scope="module")
def judged() -> list[tuple[str, str, int]]:
    rows = [line.split("\t") for line in (EXAMPLE / "qrels.tsv").read_text(encoding="utf-8").splitlines()[1:]]
    return [(query, document, int(grade)) for query, document, grade in rows]


def test_the_files_are_what_the_script_writes(tmp_path: Path) -> None:
    for name in ("make_documents.py", "words.yml"):
        shutil.copy(EXAMPLE / name, tmp_path / name)
    subprocess.run([sys.executable, tmp_path / "make_documents.py"], check=True, stdout=subprocess.DEVNULL)
    for name in ("documents.jsonl", "queries.jsonl", "qrels.tsv", "questions.jsonl"):
        assert (tmp_path / name).read_bytes() == (EXAMPLE / name).read_bytes(), name


def test_the_card_counts_what_there_is(documents: dict[str, dict[str, Any]], judged: list[tuple[str, str, int]]) -> None:
    card = (EXAMPLE / "DATA_CARD.md").read_text(encoding="utf-8")
    talks = [talk["messages"] for talk in lines("questions.jsonl")]
    turns = Counter(len(talk) for talk in talks)
    by_groups = Counter(frozenset(document["groups"]) for document in documents.values())
    lengths = sorted(len(document["text"].split()) for document in documents.values())
    assert f"{len(documents)} documents" in card
    assert (
        f"{lengths[0]} to {lengths[-1]} words, median {lengths[len(lengths) // 2]}; {by_groups[frozenset({'everyone'})]} are open" in card
    )
    assert f"{len(lines('queries.jsonl'))} queries" in card
    assert f"{len(judged)} judgements" in card
    assert f"{len(talks)} conversations: {turns[2]} of one question, {turns[4]} with a follow-up" in card
    for groups, told in (({"everyone"}, "everyone"), ({"fleet", "board"}, "fleet, board"), ({"finance"}, "finance"), ({"board"}, "board")):
        assert f"| {told} | {by_groups[frozenset(groups)]} |" in card


def test_documents_have_text_and_known_groups(documents: dict[str, dict[str, Any]]) -> None:
    for document in documents.values():
        assert document["title"]
        assert len(document["text"].split()) > 10
        assert set(document["groups"]) <= GROUPS
        assert document["groups"]


def test_judgements_are_of_queries_and_open_documents(documents: dict[str, dict[str, Any]], judged: list[tuple[str, str, int]]) -> None:
    queries = {row["id"] for row in lines("queries.jsonl")}
    assert {query for query, _, _ in judged} == queries
    assert all(documents[document]["groups"] == ["everyone"] for _, document, _ in judged)
    assert Counter(query for query, _, grade in judged if grade == 2) == Counter(dict.fromkeys(queries, 1))


def test_people_ask_in_words_that_documents_do_not_use(documents: dict[str, dict[str, Any]]) -> None:
    words = yaml.safe_load((EXAMPLE / "words.yml").read_text(encoding="utf-8"))
    house = [name.lower() for names in [*words["ships"], *words["places"]] for name in names[1:]]
    queries = [row["text"].lower() for row in lines("queries.jsonl")]
    assert sum(any(name in query for name in house) for query in queries) > 0.4 * len(queries)
    assert not any("m/s" in query for query in queries)
    assert len(set(queries)) == len(queries)
    assert not any("the pillow" in document["text"].lower() for document in documents.values())


def test_conversations_end_with_the_answer() -> None:
    for talk in lines("questions.jsonl"):
        assert [turn["role"] for turn in talk["messages"]] in (["user", "assistant"], ["user", "assistant"] * 2)
        assert all(turn["content"].strip() for turn in talk["messages"])


def test_what_is_closed_stands_in_no_open_document(documents: dict[str, dict[str, Any]]) -> None:
    words = yaml.safe_load((EXAMPLE / "words.yml").read_text(encoding="utf-8"))
    open_texts = " ".join(document["text"] for document in documents.values() if document["groups"] == ["everyone"])
    for closed in words["restricted"]:
        assert closed["text"].split(". ")[0] not in open_texts
        assert "everyone" not in closed["groups"]


def test_the_second_objective_borrows_what_the_first_releases() -> None:
    search, answers = (read_objective(EXAMPLE / name).objective for name in ("search.yaml", "answers.yaml"))
    assert (search.task.kind, answers.task.kind) == (TaskKind.RANK, TaskKind.GENERATE)
    assert answers.grounding.encoder == f"{search.tenant}/{search.name}"
    assert answers.grounding.rewrite
    assert RungKind.GROUNDED_LORA in answers.ladder
    assert [source.path for source in answers.documents] == [source.path for source in search.documents]
    assert all(source.access == "groups" for source in (*search.documents, *answers.documents))
