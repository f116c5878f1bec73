"""Every YAML snippet of the documentation is read by the reader of what it is a part of."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from tailorbird.domain.errors import ObjectiveInvalid
from tailorbird.domain.objective import Objective, RiskTier
from tailorbird.domain.rollout import RolloutPlan
from tailorbird.objective import parse_objective
from tailorbird.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
SOURCE = {"origin": "us", "license": "MIT"}
ROWS = {"path": "rows.csv", "text": "text", "label": "label", "source": SOURCE}
DOCUMENTS = [{"path": "handbook.jsonl", "source": SOURCE}]
HEAD = {"name": "desk", "base_model": "smollm2-135m"}
HEADS = [
    HEAD | {"tenant": who, "business": {"goal": "g", "owner": "o", "risk": tier.value}} for who in ("acme", "ravnholm") for tier in RiskTier
]
#: Whole objectives that a part may be of.
WHOLES: tuple[dict[str, Any], ...] = (
    {"task": {"kind": "classify", "instruction": "i"}, "data": [ROWS], "kpis": [{"metric": "accuracy", "target": 0.5}]},
    {"task": {"kind": "generate", "instruction": "i"}, "data": [ROWS], "kpis": [{"metric": "rouge_l", "target": 0.5}]},
    {
        "task": {"kind": "generate", "instruction": "i"},
        "data": [ROWS],
        "kpis": [{"metric": "rouge_l", "target": 0.5}],
        "documents": DOCUMENTS,
        "ladder": ["grounding"],
    },
    {"task": {"kind": "generate", "instruction": "i"}, "data": [{"path": "t.jsonl", "messages": "messages", "source": SOURCE}],
     "kpis": [{"metric": "rouge_l", "target": 0.5}]},
    {"task": {"kind": "rank", "instruction": "i"}, "data": [ROWS], "documents": DOCUMENTS, "kpis": [{"metric": "ndcg@10", "target": 0.5}]},
)  # fmt: skip


def snippets() -> Iterator[Any]:
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        for found in re.finditer(r"^```yaml\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL):
            line = page.read_text(encoding="utf-8")[: found.start()].count("\n") + 2
            yield pytest.param(yaml.safe_load(found[1]), id=f"{page.name}:{line}")


def told(value: Any) -> Any:
    """``value`` without what the page leaves out as ``...``."""
    if isinstance(value, Mapping):
        return {key: told(each) for key, each in value.items() if "..." not in (key, each)}
    return [told(each) for each in value] if isinstance(value, list) else value


def as_objective(part: dict[str, Any]) -> list[str]:
    """Why no objective with this part is read; empty where one is."""
    given = told(part)
    for sources in (given.get("data", ()), given.get("documents", ())):
        for source in sources:
            source["source"] = SOURCE | source.get("source", {})
    refusals = []
    for head, whole in product(HEADS, WHOLES):
        head = {key: value for key, value in head.items() if key != "base_model" or "base_models" not in given}
        text = yaml.safe_dump(head | whole | given, allow_unicode=True)
        try:
            parse_objective(text, "objective.yaml", tenant="acme" if "{tenant}" in text else "")
        except ObjectiveInvalid as refused:
            refusals.append(f"{refused.message}; {refused.hint}")
        else:
            return []
    return refusals


@pytest.mark.parametrize("snippet", list(snippets()))
def test_a_snippet_is_read(snippet: dict[str, Any]) -> None:
    if snippet.keys() <= Objective.model_fields.keys():
        assert as_objective(snippet) == []
    elif snippet.keys() <= RolloutPlan.model_fields.keys():
        RolloutPlan.model_validate(snippet)
    elif snippet.keys() <= Settings.model_fields.keys():
        Settings.model_validate({"workspace": ROOT} | snippet)
    else:
        assert snippet.keys() <= {"scrape_configs"}
