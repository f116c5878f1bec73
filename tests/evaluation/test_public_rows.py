"""Eight rows of a public comparison, unpaired and of one seed: what they prove, and what they do not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tailorbird.domain.evidence import Standing
from tailorbird.evaluation import ComparisonRule, UnpairedComparison, compare_shares

FIXTURE = json.loads((Path(__file__).parent / "peft_metamathqa.json").read_text(encoding="utf-8"))
ROWS = {row["run"]: row for row in FIXTURE["rows"]}


def compared(upper: str, lower: str) -> UnpairedComparison:
    n = FIXTURE["items"]
    hits = [round(ROWS[run]["accuracy"] * n) for run in (upper, lower)]
    return compare_shares((hits[0], n), (hits[1], n), ComparisonRule(margin=0.02, confidence=0.90))


def test_all_eight_rows_are_here() -> None:
    assert len(ROWS) == 8


@pytest.mark.parametrize(
    ("upper", "lower"), [("full, lr 1e-5", "LoRA r32 q,v"), ("LoRA r64 rsLoRA", "LoRA r32 q,v"), ("LoRA r64 q,v", "LoRA r32 q,v")]
)
def test_what_they_do_not_prove(upper: str, lower: str) -> None:
    found = compared(upper, lower)
    assert found.standing is Standing.NOT_PROVEN
    assert found.items_needed is not None
    assert found.items_needed > 500


def test_what_they_prove() -> None:
    assert compared("LoRA-FA r32", "LoRA r32 q,v").standing is Standing.WORSE


def test_forgetting_stands_beside_it() -> None:
    """The gain that is not proven was bought with twice the forgetting."""
    assert ROWS["LoRA r64 rsLoRA"]["forgetting"] > 2 * ROWS["LoRA r32 q,v"]["forgetting"]
