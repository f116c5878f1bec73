"""The change of a rule, from the example's data to answers over HTTP, by its own script."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from support.e2e import Desk, serving
from tailorbird.text.label_rules import split

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "regulatory_classification"
NEW = "machine_decided"


@pytest.mark.slow
def test_a_label_that_is_added_later_is_released_beside_the_incumbent(base_model_folder: Path, tmp_path: Path) -> None:
    """A small form: words alone, and the review and the rollout left to the tests of these."""
    desk = Desk(tmp_path / "workspace", base_model_folder.parent)
    rows = (EXAMPLE / "clauses.csv").read_text(encoding="utf-8")
    objective = (EXAMPLE / "objective.yaml").read_text(encoding="utf-8")
    for old, new in (
        ("risk: limited", "risk: minimal"),
        ("ladder: [floor]", "ladder: [floor]\nfloor: {vectors: false}"),
        ("target: 0.75", "target: 0.30"),
        ("target: 0.60", "target: 0.20"),
    ):
        assert objective.count(old) == 1, old
        objective = objective.replace(old, new)
    (tmp_path / "objective.yaml").write_text(objective, encoding="utf-8")
    (tmp_path / "clauses.csv").write_text(rows, encoding="utf-8")
    first = desk.json("adapt", str(tmp_path / "objective.yaml"))["release"]
    assert first
    desk.promote(first)
    more = (EXAMPLE / "new_rule.csv").read_text(encoding="utf-8").split("\n", 1)[1]
    (tmp_path / "clauses.csv").write_text(rows + more, encoding="utf-8")
    second = desk.json("adapt", str(tmp_path / "objective.yaml"))["release"]
    assert second
    assert second != first
    desk.promote(second)
    clause = next(row["text"] for row in csv.DictReader(more.splitlines(), ("text", "labels")) if split(row["labels"] or "") == (NEW,))
    with serving(desk) as url:
        secret = desk.run("key", "create", "reviewers").strip()
        import openai

        with openai.OpenAI(base_url=f"{url}/v1", api_key=secret, max_retries=3) as client:
            asked = [{"role": "user", "content": clause}]
            raw = client.chat.completions.with_raw_response.create(model="acme/fair-clauses", messages=asked)
    assert raw.headers["x-tailorbird-release"] == second
    assert NEW in json.loads(raw.text)["tailorbird"]["probabilities"]
