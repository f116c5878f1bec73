"""Data and objective of the example of regulatory classification: what the card says, and what the objective names."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tailorbird.domain.objective import DataSource, RiskTier, TaskKind
from tailorbird.objective import read_objective
from tailorbird.text.label_rules import split

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "regulatory_classification"
FILES, COLUMNS = ("clauses.csv", "new_rule.csv"), ("text", "labels", "document", "author")
NEW = "machine_decided"


def read(name: str) -> list[dict[str, str]]:
    text = (EXAMPLE / name).read_bytes().decode("utf-8", "strict")
    return list(csv.DictReader(text.splitlines(keepends=True), strict=True))


@pytest.fixture(scope="module")
def clauses() -> list[dict[str, str]]:
    return read("clauses.csv")


@pytest.fixture(scope="module")
def new_rule() -> list[dict[str, str]]:
    return read("new_rule.csv")


def labels_of(rows: list[dict[str, str]]) -> Counter[str]:
    return Counter(label for row in rows for label in split(row["labels"]))


@pytest.mark.parametrize("name", FILES)
def test_every_row_has_the_columns_and_no_mark_of_composition_is_left(name: str) -> None:
    rows = read(name)
    assert {tuple(row) for row in rows} == {COLUMNS}
    assert not [row["text"] for row in rows if re.search(r"[\[\]{}|]|  |\.\.| ,", row["text"])]
    assert len({row["author"] for row in rows}) == 10
    assert all(row["document"].endswith(", terms of service") for row in rows)


def test_every_article_is_breached_often_enough_and_most_clauses_breach_none(clauses: list[dict[str, str]]) -> None:
    counts = labels_of(clauses)
    assert len(counts) == 7
    assert NEW not in counts
    assert min(counts.values()) >= 120
    sets = Counter(len(split(row["labels"])) for row in clauses if row["labels"])
    assert sets[0] > sum(sets.values()) / 2
    assert sets[2] > 150


def test_two_rows_are_broken_and_some_stand_twice(clauses: list[dict[str, str]]) -> None:
    assert [(bool(row["text"]), bool(row["labels"])) for row in clauses if not (row["text"] and row["labels"])] == [
        (False, True),
        (True, False),
    ]
    assert len(clauses) - len({row["text"] for row in clauses}) == 16


def test_the_file_of_the_new_rule_brings_documents_of_its_own_with_old_and_new_labels(
    clauses: list[dict[str, str]], new_rule: list[dict[str, str]]
) -> None:
    counts = labels_of(new_rule)
    assert set(counts) == {*labels_of(clauses), NEW}
    assert counts[NEW] >= 100
    assert not {row["document"] for row in clauses} & {row["document"] for row in new_rule}
    assert any(NEW in split(row["labels"]) and len(split(row["labels"])) == 2 for row in new_rule)


def test_words_of_an_article_stand_in_clauses_that_keep_it_too(clauses: list[dict[str, str]]) -> None:
    """A word of the matter does not tell the label."""
    for word, label in (
        ("liable", "liability_excluded"),
        ("personal data", "data_passed_on"),
        ("renew", "silently_renewed"),
        ("court", "distant_court"),
    ):
        borne = [label in split(row["labels"]) for row in clauses if word in row["text"].lower()]
        assert 0.2 < sum(borne) / len(borne) < 0.9, word


def test_the_clauses_are_those_that_the_program_writes(tmp_path: Path) -> None:
    for name in ("make_clauses.py", "phrases.py"):
        shutil.copyfile(EXAMPLE / name, tmp_path / name)
    subprocess.run([sys.executable, tmp_path / "make_clauses.py"], check=True, capture_output=True)
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (EXAMPLE / name).read_bytes()


def test_the_objective_can_be_read_and_names_what_is_in_the_data(clauses: list[dict[str, str]]) -> None:
    objective = read_objective(EXAMPLE / "objective.yaml").objective
    source = objective.data[0]
    assert (objective.name, objective.tenant, objective.compare_on) == ("fair-clauses", "acme", "macro_f1")
    assert (objective.business.risk, objective.task.kind, objective.task.labels) == (RiskTier.LIMITED, TaskKind.CLASSIFY, "many")
    assert isinstance(source, DataSource)
    assert {source.text, source.label, source.subject} <= set(clauses[0])
    assert [kpi.metric for kpi in objective.kpis] == ["macro_f1", "recall[liability_excluded]"]


@pytest.mark.parametrize("name", FILES)
def test_the_card_says_synthetic_and_counts_right(name: str) -> None:
    card, rows = (EXAMPLE / "DATA_CARD.md").read_text(encoding="utf-8"), read(name)
    assert "**The data are synthetic**" in card
    assert "Apache-2.0" in card
    assert f"`{name}`: {len(rows):,} clauses of {len({row['document'] for row in rows})} documents" in card
    for label, count in labels_of(rows).items():
        assert re.search(rf"\| `{label}` \|.*\| {count} \|", card), label
