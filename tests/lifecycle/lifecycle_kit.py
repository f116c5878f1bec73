"""Objectives to play the story with, small and of known difficulty."""

from __future__ import annotations

import csv
from pathlib import Path

import yaml

from tailorbird.integrations.memory import MemoryModelReader

LABELS = ("refund", "delivery", "login")


def write_objective(folder: Path, *, hard_share: int = 20, **changes: object) -> Path:
    """An objective over 750 short rows.

    The twin engine answers by words shared with the label, so that every ``hard_share``-th row is one it gets wrong.
    """
    folder.mkdir(exist_ok=True)
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number in range(750):
            label = LABELS[number % 3]
            said = LABELS[(number + 1) % 3] if number // 3 % hard_share == 0 else label
            writer.writerow([f"case {number * 7919 % 100003} {_words(number)} {said}", label])
    base = folder / "base"
    base.mkdir(exist_ok=True)
    MemoryModelReader().convert(folder, base)
    content: dict[str, object] = {
        "name": "desk",
        "tenant": "acme",
        "business": {"goal": "Route messages.", "owner": "support", "risk": "limited"},
        "task": {"kind": "classify", "instruction": "Classify the message."},
        "data": [{"path": "rows.csv", "source": {"origin": "written for this test", "license": "Apache-2.0"}}],
        "base_model": "base",
        "kpis": [{"metric": "accuracy", "target": 0.8, "because": "as good as people"}],
    }
    path = folder / "objective.yaml"
    path.write_text(yaml.safe_dump(content | changes, sort_keys=False))
    return path


def _words(number: int) -> str:
    """Words that tell rows apart, so that none are near-duplicates."""
    return " ".join(f"w{(number * factor) % 9973}" for factor in (31, 577, 1009, 4001))
