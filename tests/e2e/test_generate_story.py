"""A generating objective, from rows to streamed answers."""

from __future__ import annotations

from pathlib import Path

import openai
import pytest

from support.e2e import Desk, serving, support_rows, write_objective, write_rows

pytestmark = pytest.mark.jobs

REPLIES = {
    "refund_missing": "Forward to the refunds desk.",
    "order_status": "Forward to the parcels desk.",
    "account_login": "Forward to the accounts desk.",
}


def test_an_adapter_learns_to_answer_and_streams(desk: Desk, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.csv", [(text, REPLIES[intent]) for text, intent in support_rows(tuple(REPLIES), 40)])
    objective = write_objective(
        tmp_path,
        name="replies",
        task={"kind": "generate", "instruction": "Reply to the customer's message in one sentence."},
        kpis=[{"metric": "exact_match", "target": 0.05}],
        ladder=["lora"],
        lora={"epochs": 3},
    )
    release = desk.json("adapt", str(objective))["release"]
    assert release is not None
    desk.promote(release)
    secret = desk.run("key", "create", "replies", "--as", "admin").strip()
    question = [{"role": "user", "content": "I cannot log in to my account, the password is refused"}]
    with serving(desk) as url, openai.OpenAI(base_url=f"{url}/v1", api_key=secret, max_retries=0) as client:
        whole = client.chat.completions.create(model="acme/replies", messages=question)
        with client.chat.completions.create(model="acme/replies", messages=question, stream=True) as stream:
            pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    answer = whole.choices[0].message.content
    assert answer in REPLIES.values()
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage is not None
    assert whole.usage.completion_tokens > 3
    assert "".join(pieces) == answer
    assert len([piece for piece in pieces if piece]) > 1
