"""The example that newcomers meet first: its data are what its card says, and its objective can be read.

In: the files of ``examples/support_desk``. Out: verdicts. Must not know: how rows are split or models trained.
"""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.dataset import Provenance, Row, Split
from tailorbird.domain.objective import DataSource, RiskTier, TaskKind
from tailorbird.objective import read_objective
from tailorbird.rungs import fit_floor

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "support_desk"
CHANNELS = {"email", "web_form", "chat", "app"}
EXAMPLE_DOMAIN = re.compile(r"([\w-]+\.)*(example|example\.(com|org|net))", re.IGNORECASE)
FICTIONAL_PHONE = re.compile(r"(07700|\+44 7700) 900\d{3}|01632 960\d{3}|020 7946 0\d{3}|\+1 202 555 01\d\d")
ANY_PHONE = re.compile(r"(?<![\w-])(?:\+\d{1,3} |0)\d{2,4}[ -]\d{3,4}(?:[ -]?\d{2,4})?")


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    text = (EXAMPLE / "messages.csv").read_bytes().decode("utf-8", "strict")
    return list(csv.DictReader(text.splitlines(keepends=True), strict=True))


@pytest.fixture(scope="module")
def whole(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [row for row in rows if row["text"].strip() and row["intent"]]


def test_every_row_has_the_three_columns(rows: list[dict[str, str]]) -> None:
    assert {tuple(row) for row in rows} == {("text", "intent", "channel")}
    assert {row["channel"] for row in rows} == CHANNELS


def test_there_are_enough_rows_of_every_intent(whole: list[dict[str, str]]) -> None:
    counts = Counter(row["intent"] for row in whole)
    assert len(whole) >= 1200
    assert len(counts) == 8
    assert min(counts.values()) >= 150
    assert max(counts.values()) <= 1.6 * min(counts.values())
    assert all(re.fullmatch(r"[a-z]+_[a-z]+", intent) for intent in counts)


def test_a_few_rows_are_broken_or_repeated_so_that_intake_has_something_to_find(
    rows: list[dict[str, str]], whole: list[dict[str, str]]
) -> None:
    assert len(rows) - len(whole) == 3
    assert len(whole) - len({row["text"] for row in whole}) == 14


def test_messages_have_commas_quotes_and_line_breaks(whole: list[dict[str, str]]) -> None:
    for mark in (",", '"', "\n"):
        assert sum(mark in row["text"] for row in whole) > 40


def test_no_composition_mark_is_left_in_a_message(whole: list[dict[str, str]]) -> None:
    assert not [row["text"] for row in whole if re.search(r"[<>{}|]", row["text"])]


def test_mail_addresses_lie_in_example_domains(whole: list[dict[str, str]]) -> None:
    domains = [domain for row in whole for domain in re.findall(r"@([\w-]+(?:\.[\w-]+)*)", row["text"])]
    assert len(domains) > 30
    assert not [domain for domain in domains if not EXAMPLE_DOMAIN.fullmatch(domain)]


def test_telephone_numbers_lie_in_ranges_set_aside_for_fiction(whole: list[dict[str, str]]) -> None:
    numbers = [number for row in whole for number in ANY_PHONE.findall(row["text"])]
    assert len(numbers) > 30
    assert not [number for number in numbers if not FICTIONAL_PHONE.match(number)]


def test_the_messages_are_those_that_the_program_writes(rows: list[dict[str, str]], tmp_path: Path) -> None:
    program = tmp_path / "make_messages.py"
    shutil.copyfile(EXAMPLE / "make_messages.py", program)
    subprocess.run([sys.executable, program], check=True, capture_output=True)
    assert (tmp_path / "messages.csv").read_bytes() == (EXAMPLE / "messages.csv").read_bytes()


def test_words_alone_do_not_tell_what_is_asked(whole: list[dict[str, str]]) -> None:
    """The floor of words stays far below the target, on rows that it did not learn."""
    once = {row["text"]: row["intent"] for row in whole}
    origin = Provenance(file="messages.csv", line=1, origin="synthetic", license="Apache-2.0", collected="unknown", consent="not needed")
    made = [
        Row(id=digest_bytes(text.encode()), text=text, target=intent, split=Split.TRAIN, group=text, provenance=origin)
        for text, intent in once.items()
    ]
    labels = sorted({row["intent"] for row in whole})
    model = fit_floor(made[:400], labels, seed=20)
    right = [one.answer == row.target for one, row in zip(model.predict(made[400:700]), made[400:700], strict=True)]
    assert 0.25 < sum(right) / len(right) < 0.60


def test_the_objective_can_be_read_and_names_what_is_in_the_data(whole: list[dict[str, str]]) -> None:
    file = read_objective(EXAMPLE / "objective.yaml")
    objective = file.objective
    source = objective.data[0]
    assert (objective.name, objective.tenant) == ("support-desk", "acme")
    assert (objective.business.risk, objective.task.kind) == (RiskTier.LIMITED, TaskKind.CLASSIFY)
    assert isinstance(source, DataSource)
    assert (EXAMPLE / source.path).is_file()
    assert {source.text, source.label} <= set(whole[0])
    assert [kpi.metric for kpi in objective.kpis] == ["accuracy", "recall[refund_missing]"]
    assert "refund_missing" in {row["intent"] for row in whole}


def test_the_card_says_synthetic_and_counts_right(rows: list[dict[str, str]], whole: list[dict[str, str]]) -> None:
    card = (EXAMPLE / "DATA_CARD.md").read_text(encoding="utf-8")
    assert "synthetic" in card
    assert "Apache-2.0" in card
    assert f"{len(rows):,} short English messages" in card
    for intent, count in Counter(row["intent"] for row in whole).items():
        assert f"| `{intent}` | {count} |" in card
