"""Eight public rows (PEFT, MetaMathQA): what a comparison of one seed, unpaired, proves under our rule.

In: tests/evaluation/peft_metamathqa.json. Out: each row against LoRA r32, with standing, items needed and forgetting beside it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tailorbird.evaluation import ComparisonRule, compare_shares

ROWS = Path(__file__).parents[2] / "tests" / "evaluation" / "peft_metamathqa.json"
REFERENCE = "LoRA r32 q,v"
#: The two comparisons that the bar is about: all others are shown.
ASKED = ("full, lr 1e-5", "LoRA r64 rsLoRA")


def public_rows() -> list[dict[str, Any]]:
    told = json.loads(ROWS.read_text(encoding="utf-8"))
    n, rows = told["items"], {row["run"]: row for row in told["rows"]}
    rule, found = ComparisonRule(margin=0.02, confidence=0.90), []
    for run, row in rows.items():
        if run == REFERENCE:
            continue
        one = compare_shares((round(row["accuracy"] * n), n), (round(rows[REFERENCE]["accuracy"] * n), n), rule)
        found.append(
            {
                "run": run,
                "asked": run in ASKED,
                "difference": round(one.difference, 4),
                "interval": [round(one.low, 4), round(one.high, 4)],
                "standing": one.standing.value,
                "items_needed": one.items_needed,
                "forgetting": [row["forgetting"], rows[REFERENCE]["forgetting"]],
            }
        )
    return found
