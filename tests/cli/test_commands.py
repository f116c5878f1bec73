"""The command line without a model: what it says when something is wrong, and what it prints when nothing is."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.cli import tailorbird
from tailorbird import auth

GOOD = """\
name: desk
tenant: acme
business: {goal: Route., owner: support, risk: limited}
task: {kind: classify, instruction: Classify.}
data:
  - path: rows.csv
    source: {origin: here, license: Apache-2.0}
kpis:
  - {metric: accuracy, target: 0.8}
"""


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    made = tailorbird(tmp_path, "init", "--tenant", "acme")
    assert made.returncode == 0, made.stderr
    return tmp_path


def refused(done: subprocess.CompletedProcess[str], code: str, *words: str) -> None:
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert f"error[{code}]" in done.stderr
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def test_init_makes_people_with_private_keys_and_can_be_repeated(desk: Path) -> None:
    keys = sorted((desk / ".tailorbird" / "keys" / "acme").glob("*.key"))
    assert [key.stem for key in keys] == ["admin", "approver", "author", "data-author", "operator", "reviewer", "viewer", "worker"]
    assert all(key.stat().st_mode & 0o077 == 0 for key in keys)
    again = tailorbird(desk, "init", "--tenant", "acme", "--json")
    assert again.returncode == 0
    assert len(json.loads(again.stdout)) == 8
    assert tailorbird(desk, "init", "--tenant", "globex").returncode == 1


def test_without_a_workspace_it_says_how_to_make_one(tmp_path: Path) -> None:
    refused(tailorbird(tmp_path, "runs", "list"), "workspace_missing", "tailorbird init")


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        (GOOD.replace("kpis:", "kpi:"), "objective_invalid", ("kpis",)),
        (GOOD.replace("0.8", "1.2"), "objective_invalid", (":9:",)),
        (GOOD.replace("[", "{").replace("data:", "data: ["), "objective_invalid", ()),
    ],
)
def test_a_bad_objective_is_refused_with_its_line(desk: Path, text: str, code: str, words: tuple[str, ...]) -> None:
    (desk / "objective.yaml").write_text(text)
    done = tailorbird(desk, "plan", "objective.yaml")
    assert done.returncode == 1, done.stderr
    assert "objective.yaml:" in done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def test_an_unknown_base_model_names_the_nearest(desk: Path) -> None:
    refused(tailorbird(desk, "models", "pull", "smolm2-135m"), "model_unknown", "smollm2-135m")


def test_a_key_is_made_and_its_secret_printed_once(desk: Path) -> None:
    made = tailorbird(desk, "key", "create", "app", "--as", "admin")
    assert made.returncode == 0
    assert made.stdout.startswith("tb_")
    listed = tailorbird(desk, "key", "list", "--as", "admin", "--json").stdout
    assert made.stdout.strip() not in listed


def test_an_exported_log_is_told_with_the_key_that_an_auditor_checks_it_by(desk: Path) -> None:
    (key,) = desk.rglob("log.key")
    public = auth.public_key(auth.load_key(key))
    assert f"the log's key is {public}\n" in tailorbird(desk, "audit", "export", "one.jsonl").stderr
    assert json.loads(tailorbird(desk, "audit", "export", "two.jsonl", "--json").stdout)["log_key"] == public


def test_a_log_that_was_changed_is_found_out(desk: Path) -> None:
    """Somebody with the database rewrites history; verification says so and exits with 1."""
    code = (
        "import sqlite3\n"
        "database = sqlite3.connect('.tailorbird/tailorbird.db')\n"
        "database.execute(\"UPDATE log_entries SET body = replace(body, 'identity.added', 'identity.faked') WHERE body LIKE '%viewer%'\")\n"
        "database.commit()\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=desk, check=True)
    done = tailorbird(desk, "audit", "verify")
    assert done.returncode == 1
    assert "problem:" in done.stderr


def test_every_verb_has_help(desk: Path) -> None:
    listed = tailorbird(desk, "--help").stdout
    for verb in ("init", "models", "plan", "adapt", "runs", "release", "promote", "rollback", "serve", "key", "explain", "audit"):
        assert verb in listed
        shown = tailorbird(desk, verb, "--help")
        assert shown.returncode == 0, shown.stderr
        assert "Usage" in shown.stdout


def test_wrong_usage_is_status_2(desk: Path) -> None:
    assert tailorbird(desk, "adapt").returncode == 2
    assert tailorbird(desk, "adpt").returncode == 2


ROWS = "message;kind\n" + "".join(f"{n * 7919 % 100_003} w{n * 31 % 997} w{n * 577 % 991};{'ab'[n % 2]}\n" for n in range(200))
TERMS = ("--origin", "our desk", "--license", "MIT", "--consent", "terms of service")


def test_init_from_data_adds_an_objective_to_the_workspace(desk: Path) -> None:
    (desk / "Rows 1.csv").write_text(ROWS)
    made = tailorbird(desk, "init", "--from", "Rows 1.csv", *TERMS)
    assert made.returncode == 0, made.stderr
    assert "looks like a task classify (text: message, label: kind)" in made.stderr
    assert "next: tailorbird plan objective.yaml" in made.stderr
    text = (desk / "objective.yaml").read_text()
    assert "tenant: acme\n" in text
    assert "template" not in text
    assert tailorbird(desk, "data", "curate", "objective.yaml").returncode == 0
    again = tailorbird(desk, "init", "--from", "Rows 1.csv", *TERMS)
    assert "next: tailorbird plan rows-1.yaml" in again.stderr
    assert (desk / "objective.yaml").read_text() == text
    below = desk / "below"
    below.mkdir()
    assert tailorbird(below, "init", "--from", "../Rows 1.csv", *TERMS).returncode == 0
    assert sorted(path.name for path in below.iterdir()) == ["objective.schema.json", "objective.yaml"]
    assert tailorbird(below, "data", "curate", "objective.yaml").returncode == 0


def test_what_nobody_said_is_refused_under_the_name_of_the_file_that_was_given(desk: Path) -> None:
    (desk / "rows.csv").write_text(ROWS)
    (desk / "objective.yaml").write_text("another\n")
    made = tailorbird(desk, "init", "--from", "rows.csv", "--license", "MIT")
    assert "still to be filled in, under `source` in rows.yaml: origin, consent" in made.stderr
    refused(tailorbird(desk, "plan", "rows.yaml"), "objective_invalid", "rows.yaml:", "whose data it is")
    text = (desk / "rows.yaml").read_text().replace("FILL IN", "said")
    (desk / "rows.yaml").write_text(re.sub(r"target: \S+", "target: 0.99", text))
    refused(tailorbird(desk, "plan", "rows.yaml"), "objective_invalid", "rows.yaml:", "cannot prove accuracy >= 0.99")
