"""Two base models on one ladder, with real weights: the better one is chosen on paired evidence, released and served."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from support.e2e import Desk, serving, support_rows, write_objective, write_rows

pytestmark = pytest.mark.jobs

INTENTS = ("refund_missing", "order_status", "account_login")


def test_of_two_bases_the_one_that_is_better_is_released_and_served(desk: Desk, tmp_path: Path, untaught: Path) -> None:
    write_rows(tmp_path / "rows.csv", support_rows(INTENTS, 60))
    objective = write_objective(
        tmp_path,
        name="bases",
        base_models=[f"./{untaught.name}", "smollm2-135m"],
        kpis=[{"metric": "accuracy", "target": 0.05}],
        ladder=["lora"],
        lora={"epochs": 3},
    )
    done = desk.json("adapt", str(objective))
    run = desk.json("runs", "show", desk.json("runs", "list")[0]["id"])
    assert {base["label"]: base["reason"][:3] for base in run["plan"]["bases"]} == {"untaught": "in:", "smollm2-135m": "in:"}
    weak, good = run["ladder"]["climbs"]
    assert (weak["variant"], good["variant"]) == ("r16 on untaught", "r16 on smollm2-135m"), "the cheaper base stands first"
    assert weak["gate"]["verdict"] == good["gate"]["verdict"] == "pass"
    assert run["ladder"]["chosen"] == good["candidate"], "the cheaper one passes too, but the other is better by more than the margin"
    assert "is better than lora r16 on untaught" in run["ladder"]["reason"]
    desk.promote(done["release"])
    secret = desk.run("key", "create", "bases", "--as", "admin").strip()
    question = {"model": "acme/bases", "messages": [{"role": "user", "content": "I cannot log in to my account"}]}
    with serving(desk) as url:
        answer = httpx.post(f"{url}/v1/chat/completions", json=question, headers={"authorization": f"Bearer {secret}"}, timeout=60)
    assert answer.json()["choices"][0]["message"]["content"] in INTENTS
