"""A base model without a chat template: trained, released and served by the plain one, and by one that the objective gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.e2e import Desk, serving, support_rows, write_objective, write_rows
from tailorbird.chat.templates import DEFAULT, TEMPLATES
from tailorbird.crypto.canonical_json import digest_bytes

pytestmark = pytest.mark.jobs

INTENTS = ("refund_missing", "order_status", "account_login")
FORM = "{% for m in messages %}{% if m.role == 'assistant' %}A: {{ m.content }}{{ eos_token }}{% else %}Q: {{ m.content }}\n{% endif %}"
FORM += "{% endfor %}{% if add_generation_prompt %}A: {% endif %}"
HOSTILE = "{% set n = namespace(x='xx') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}"


@pytest.fixture
def pretrained(untaught: Path) -> Path:
    (untaught / "chat_template.jinja").unlink()
    path = untaught / "tokenizer_config.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "chat_template"}))
    return untaught


def test_a_pretrained_base_is_tuned_and_served_by_either_template(desk: Desk, tmp_path: Path, pretrained: Path) -> None:
    write_rows(tmp_path / "rows.csv", support_rows(INTENTS, 40))
    (tmp_path / "form.jinja").write_text(FORM, encoding="utf-8")
    (tmp_path / "hostile.jinja").write_text(HOSTILE, encoding="utf-8")
    common: dict[str, Any] = {
        "base_model": f"./{pretrained.name}",
        "kpis": [{"metric": "accuracy", "target": 0.05}],
        "ladder": ["lora"],
        "lora": {"epochs": 1},
    }
    assert "error[chat_template]" in desk.refused(
        "plan", str(write_objective(tmp_path, name="hostile", chat_template="hostile.jinja", **common))
    )
    wanted = {"default": (TEMPLATES[DEFAULT], {}), "given": (FORM, {"chat_template": "form.jinja"})}
    for name, (template, asked) in wanted.items():
        release = desk.json("adapt", str(write_objective(tmp_path, name=name, **common, **asked)))["release"]
        assert desk.json("release", "show", release)["content"]["chat_template"] == digest_bytes(template.encode())
        desk.promote(release)
    secret = desk.run("key", "create", "desks", "--as", "admin").strip()
    messages = [{"role": "user", "content": "I cannot log in to my account"}]
    with serving(desk) as url:
        for name in wanted:
            asked_for = {"model": f"acme/{name}", "messages": messages}
            answer = httpx.post(f"{url}/v1/chat/completions", json=asked_for, headers={"authorization": f"Bearer {secret}"}, timeout=60)
            assert answer.json()["choices"][0]["message"]["content"] in INTENTS
