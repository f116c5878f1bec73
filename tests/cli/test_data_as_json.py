"""``tailorbird data … --json``: one document on stdout, whatever is told on stderr meanwhile."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from support.cli import tailorbird
from support.doubles import MemoryModelReader

OBJECTIVE = """\
name: desk
tenant: acme
business: {goal: g, owner: o, risk: minimal}
task: {kind: classify, instruction: Classify.}
data:
  - {path: rows.csv, subject: person, source: {origin: o, license: MIT}}
base_model: base
kpis: [{metric: accuracy, target: 0.6}]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with one snapshot: 300 rows of 150 people, one in twenty with a wrong label."""
    place = tmp_path_factory.mktemp("data")
    with (place / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "person"])
        for n in range(300):
            said, label = ("refund", "login")[n % 2], ("refund", "login")[(n + (n % 20 == 0)) % 2]
            words = " ".join(f"w{n * factor % 9973}" for factor in (31, 577, 1009, 4001))
            writer.writerow([f"case {n * 7919 % 100003} {words} {said} {said}", label, f"person {n // 2}"])
    (place / "base").mkdir()
    MemoryModelReader().convert(place, place / "base")
    (place / "objective.yaml").write_text(OBJECTIVE)
    assert tailorbird(place, "init", "--tenant", "acme").returncode == 0
    return place


def asked(folder: Path, *arguments: str) -> tuple[Any, str]:
    """What stdout says as JSON, and what stderr says."""
    done = tailorbird(folder, "data", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def test_every_verb_answers_a_machine(folder: Path) -> None:
    """One after the other, as each works on what the one before has left."""
    looked, _ = asked(folder, "inspect", "rows.csv")
    assert {guess["role"] for guess in looked["guesses"]} >= {"text", "label", "subject"}
    curated, told = asked(folder, "curate", "objective.yaml")
    assert "looking for near-duplicates" in told
    first = curated["digest"]
    shown, _ = asked(folder, "show", "desk")
    assert shown["digest"] == first
    likely, _ = asked(folder, "fix", "desk")
    assert set(likely) >= {"suspects", "total"}
    rows = tailorbird(folder, "data", "diff", first, first, "--json")
    assert json.loads(rows.stdout)["counts"]["same"] == curated["manifest"]["counts"]["train"] + sum(
        curated["manifest"]["counts"][split] for split in ("dev", "test")
    )
    forgotten, told = asked(folder, "erase", "--subject", "person 7")
    assert forgotten["erasure"]["state"] == "done"
    assert [len(one["rows"]) for one in forgotten["certificate"]["snapshots"]] == [2]
    assert "looking for this person" in told
    listed, _ = asked(folder, "list")
    assert [one["manifest"]["parent"] for one in listed] == [first, None]
    assert asked(folder, "erasures")[0][0]["id"] == forgotten["erasure"]["id"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("data", "annotate", "objective.yaml", "--into", "rows.jsonl"),
        ("data", "erase", "--subject", "nobody", "--certificate", "c.pdf"),
        ("evidence", "--to", "page.pdf"),
        ("plan", "objective.yaml", "--html", "plan.json"),
    ],
)
def test_a_file_holds_what_its_ending_says(folder: Path, arguments: tuple[str, ...]) -> None:
    done = tailorbird(folder, *arguments)
    assert done.returncode == 1
    assert "error[invalid_input]" in done.stderr
    assert not (folder / arguments[-1]).exists()


def test_who_is_to_be_forgotten_is_asked_for_on_stderr(folder: Path) -> None:
    done = tailorbird(folder, "data", "erase", "--json")
    assert done.returncode != 0
    assert done.stdout == ""
    assert "Subject: " in done.stderr
    assert "hint: give the name as it stands" in done.stderr
