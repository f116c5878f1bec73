"""A floor under `ladder: auto`, with one label an item and with several: chosen, released, served over HTTP, explained, taken back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pytest

from support.e2e import Desk, serving, support_rows, write_objective, write_rows

pytestmark = pytest.mark.slow

INTENTS = ("account_login", "order_status", "refund_missing")
PAIR = "I cannot sign in to my account with the password. And where is my refund? The money has not come back."


def several(rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Single messages, and pairs of them in one."""
    return rows + [(f"{a} {b}", f"{x} | {y}") for (a, x), (b, y) in zip(rows, rows[45:] + rows[:45], strict=True) if x < y]


@pytest.mark.usefixtures("encoder_folder")
@pytest.mark.parametrize("labels", ["one", "many"])
def test_a_floor_is_released_and_served_as_any_rung(desk: Desk, tmp_path: Path, untaught: Path, labels: str) -> None:
    """The rungs above it are planned for a small model, which none of them reaches."""
    rows = support_rows(INTENTS, 70)
    write_rows(tmp_path / "rows.csv", rows if labels == "one" else several(rows))
    task = {"kind": "classify", "labels": labels, "instruction": "Name what the customer writes about."}
    kpi = {"metric": "accuracy" if labels == "one" else "micro_f1", "target": 0.5}
    objective = write_objective(tmp_path, name=f"floor-{labels}", base_model=f"./{untaught.name}", task=task, kpis=[kpi])
    release = desk.json("adapt", str(objective))["release"]
    run = next(run for run in desk.json("runs", "list") if run["objective_name"] == f"floor-{labels}")
    found = desk.json("runs", "show", run["id"])
    assert found["plan"]["floor"]["role"] == "rung"
    assert found["plan"]["floor"]["name"] == "minilm-l6-v2"
    ladder = found["ladder"]
    assert ladder["climbs"] == []
    assert ladder["chosen"] == ladder["floor"]["candidate"]
    desk.promote(release)
    secret = desk.run("key", "create", f"shop-{labels}", "--as", "admin").strip()
    with serving(desk) as url, openai.OpenAI(base_url=f"{url}/v1", api_key=secret, max_retries=0) as client:
        raw = client.chat.completions.with_raw_response.create(model=f"acme/floor-{labels}", messages=[{"role": "user", "content": PAIR}])
        answer: dict[str, Any] = json.loads(raw.text)
        given = set(answer["choices"][0]["message"]["content"].split(" | "))
        assert raw.headers["x-tailorbird-release"] == release
        assert set(answer["tailorbird"]["probabilities"]) == set(INTENTS)
        assert answer["usage"]["prompt_tokens"] == 0
        assert given == {"account_login", "refund_missing"} if labels == "many" else len(given) == 1
        assert desk.json("explain", raw.headers["x-tailorbird-request-id"])["release"]["digest"] == release
        assert "withdrawn" in desk.run("rollback", f"acme/floor-{labels}", "--withdraw", "--as", "operator", "--reason", "drill")
    assert "lowest rung" in desk.run("plan", str(objective), "--why")
