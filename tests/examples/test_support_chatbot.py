"""The support chatbot in a small form: its script ends with a conversation that was handed over and settled."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.examples import EXAMPLES, run_script, small_form

EXAMPLE = EXAMPLES / "support_chatbot"


@pytest.mark.jobs
def test_a_small_form_ends_with_a_conversation_that_was_handed_over(tmp_path: Path, base_model_folder: Path) -> None:
    kpis = [{"metric": "exact_match", "target": 0.05}, {"metric": "referral_recall", "target": 0.05}]
    few = {"train.jsonl": 110, "dev.jsonl": 36, "test.jsonl": 36}
    objective = small_form(EXAMPLE, tmp_path / "job", few, kpis=kpis, ladder=["grounding+lora"], lora={"epochs": 1})
    told = run_script(EXAMPLE / "demo.py", tmp_path / "workspace", base_model_folder.parent, str(objective))
    assert re.search(r"Who is liable\?\n  chatbot:   .*passing this on to a colleague.*→ referred to people", told)
    assert told.count("thumb up for req_") == 3
    assert re.search(r"^req_\w+ is labelled Ms Varga", told, flags=re.M)
    assert re.search(r"referred .*passing this on", told)
    assert "the log is intact" in told
