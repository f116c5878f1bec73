"""Documents, queries and judgements: what ranking and grounding are given."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from random import Random
from typing import Any

import pytest

from support.data import ORIGIN, Store, make_objective
from tailorbird.data import Amendments, SnapshotRequest, build_snapshot, load_documents, read_sources
from tailorbird.data.pseudonyms import pseudonym
from tailorbird.data.readers.cells import UnusableRecord, grades_cell
from tailorbird.data.readers.data_file import Record
from tailorbird.data.snapshot import load_quarantine
from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.objective import DataOrigin, DocumentSource, Objective, TaskKind


def jsonl(place: Path, rows: list[dict[str, Any]]) -> None:
    place.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _word(number: int) -> str:
    """Words with nothing in common, so that no question is like another."""
    return "".join(Random(number).sample("abcdefghijklmnopqrstuvwxyz", 12))


def write(folder: Path, judgements: str, **source: Any) -> Objective:
    """Forty documents and as many queries, each about its own."""
    jsonl(folder / "docs.jsonl", [{"_id": n, "title": f"about {n}", "text": f"page {n} says {n * n}", "may": "a|b"} for n in range(40)])
    jsonl(folder / "queries.jsonl", [{"_id": n, "text": f"{_word(n)} {_word(n + 40)}: where is it {n}"} for n in range(40)])
    (folder / "qrels.tsv").write_text(judgements)
    documents = DocumentSource(path="docs.jsonl", id="_id", title="title", access="may", source=ORIGIN)
    data = {"path": "queries.jsonl", "id": "_id", "qrels": "qrels.tsv", **source}
    return make_objective(data, kind=TaskKind.RANK).model_copy(update={"documents": (documents,)})


BEIR = "query-id\tcorpus-id\tscore\n" + "".join(f"{n}\t{n}\t{1 + n % 3}\n{n}\t{(n + 1) % 40}\t0\n" for n in range(40))
TREC = "".join(f"{n} 0 {n} {1 + n % 3}\n" for n in range(40))


@pytest.mark.parametrize("judgements", [BEIR, TREC])
def test_judgements_become_targets(tmp_path: Path, judgements: str) -> None:
    found = read_sources(write(tmp_path, judgements), tmp_path)
    assert [row.target for row in found.rows[:4]] == ['{"0":1}', '{"1":2}', '{"2":3}', '{"3":1}']
    assert (len(found.documents), found.quarantined) == (40, ())
    first = found.documents[0]
    assert (first.id, first.title, first.text, first.access) == ("0", "about 0", "page 0 says 0", ("a", "b"))
    assert set(found.files) == {"docs.jsonl", "queries.jsonl", "qrels.tsv"}


def test_what_names_nothing_is_set_aside(tmp_path: Path) -> None:
    judgements = BEIR + "3\tmissing\t1\n4\t5\n6\t7\thigh\n"
    objective = write(tmp_path, judgements)
    with (tmp_path / "docs.jsonl").open("a") as file:
        file.write(json.dumps({"_id": 1, "text": "again", "may": ""}) + "\n" + json.dumps({"_id": 41, "text": " ", "may": ""}) + "\n")
    with (tmp_path / "queries.jsonl").open("a") as file:
        file.write(json.dumps({"_id": "unjudged", "text": "what is this"}) + "\n")
    found = read_sources(objective, tmp_path)
    assert sorted((entry.file, entry.line, entry.code) for entry in found.quarantined) == [
        ("docs.jsonl", 41, "id_twice"),
        ("docs.jsonl", 42, "empty_text"),
        ("qrels.tsv", 82, "unknown_document"),
        ("qrels.tsv", 83, "broken_judgement"),
        ("qrels.tsv", 84, "broken_judgement"),
        ("queries.jsonl", 41, "no_judgement"),
    ]


def test_an_empty_list_of_groups_is_nobody_and_no_column_is_everybody(tmp_path: Path) -> None:
    objective = write(tmp_path, BEIR)
    jsonl(tmp_path / "docs.jsonl", [{"_id": n, "title": None, "text": f"t {n}", "may": [None, "", ["b", " a "]][n % 3]} for n in range(40)])
    by_id = {document.id: document.access for document in read_sources(objective, tmp_path).documents}
    assert [by_id[name] for name in "012"] == [(), (), ("a", "b")]
    plain = objective.documents[0].model_copy(update={"access": None})
    found = read_sources(objective.model_copy(update={"documents": (plain,)}), tmp_path)
    assert {document.access for document in found.documents} == {("everyone",)}


@pytest.mark.parametrize(
    ("cell", "grades"),
    [
        ("1|2", {"1": 1, "2": 1}),
        ({"1": 3, "2": 0}, {"1": 3}),
        ('["1", "gone"]', {"1": 1}),
    ],
)
def test_a_cell_may_hold_the_relevant_documents(cell: Any, grades: dict[str, int]) -> None:
    assert grades_cell(Record(1, {"label": cell}), "label", frozenset({"1", "2"})) == (grades, int("gone" in cell))


@pytest.mark.parametrize(("cell", "code"), [(None, "wrong_type"), ("", "no_judgement"), ("9", "unknown_document")])
def test_a_cell_that_holds_none_is_unusable(cell: Any, code: str) -> None:
    with pytest.raises(UnusableRecord) as problem:
        grades_cell(Record(1, {"label": cell}), "label", frozenset({"1", "2"}))
    assert problem.value.code == code


SECRET = b"s" * 32


def about_people(folder: Path, **source: Any) -> Objective:
    """Forty documents, four of each of ten people; every query is answered by its own document and by the next."""
    graded = BEIR.replace("\t0\n", "\t1\n")
    objective = write(folder, graded)
    documents = [json.loads(line) | {"who": f"person {n // 4}"} for n, line in enumerate((folder / "docs.jsonl").read_text().splitlines())]
    jsonl(folder / "docs.jsonl", documents)
    (named,) = objective.documents
    return objective.model_copy(update={"documents": (named.model_copy(update={"subject": "who", **source}),)})


def test_documents_of_who_was_erased_are_not_taken_up_and_answer_nothing(tmp_path: Path) -> None:
    objective, store = about_people(tmp_path), Store()
    gone = Amendments(secret=SECRET, erased=frozenset({pseudonym(SECRET, "acme", "person 3")}))
    manifest = build_snapshot(SnapshotRequest(objective, tmp_path, store, {}, lambda _: None, gone)).manifest
    assert {document.id for document in load_documents(manifest, store)} == {str(n) for n in range(40)} - {"12", "13", "14", "15"}
    targets = {json.loads(line)["text"].rpartition(" ")[2]: json.loads(line)["target"] for line in store.get(manifest.rows).splitlines()}
    assert (targets["11"], targets["15"], targets["16"]) == ('{"11":3}', '{"16":1}', '{"16":2,"17":1}')
    assert not {"12", "13", "14"} & targets.keys()
    codes = [entry.code for entry in load_quarantine(manifest, store)]
    assert (codes.count("erased"), codes.count("answer_gone"), manifest.removed) == (4, 3, 3)
    assert manifest.sealed_documents is not None
    assert manifest.sealed_documents.size == 36


def test_documents_are_kept_no_longer_than_they_may(tmp_path: Path) -> None:
    until = DataOrigin(origin="o", license="MIT", retain_until=date(2026, 5, 1))
    objective, store = about_people(tmp_path, source=until), Store()
    kept = build_snapshot(SnapshotRequest(objective, tmp_path, store, {}, lambda _: None, Amendments(today=date(2026, 5, 1)))).manifest
    assert (len(load_documents(kept, store)), kept.expires) == (40, date(2026, 5, 1))
    with pytest.raises(DataInvalid):
        build_snapshot(SnapshotRequest(objective, tmp_path, store, {}, lambda _: None, Amendments(today=date(2026, 5, 2))))
