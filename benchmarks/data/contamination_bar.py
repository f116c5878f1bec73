"""Contamination: rows that repeat the test set are planted among the training rows; none may be learned from.

Planted are copies, copies in capitals, near-copies, and test questions quoted inside a longer message; also against a protected set that is
no part of the objective's data.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import tempfile
from pathlib import Path

from objectives import objective_of, store
from rows import banking77, recased, typos

from tailorbird.data import SnapshotRequest, build_snapshot
from tailorbird.domain.curation import CurationPolicy, ProtectedSet
from tailorbird.domain.dataset import Split

SEED = 13
EACH = 100


def main() -> None:
    argparse.ArgumentParser().parse_known_args()
    bars = {"contamination_found": measured(protected=False), "contamination_of_protected_sets_found": measured(protected=True)}
    print(json.dumps(bars))


def measured(*, protected: bool) -> dict[str, object]:
    drawn, test = random.Random(SEED), banking77("test")
    quotable = [row for row in test if len(row[0].split()) >= 9]
    planted = [
        *drawn.sample(test, EACH),
        *((recased(text, drawn), label) for text, label in drawn.sample(test, EACH)),
        *((typos(text, drawn, 0.1), label) for text, label in drawn.sample(test, EACH)),
        *((_quoted(text), label) for text, label in drawn.sample(quotable, EACH)),
    ]
    with tempfile.TemporaryDirectory() as folder:
        clean = banking77()
        _write(Path(folder) / "train.csv", [*clean, *planted])
        _write(Path(folder) / "test.csv", test)
        sources = [{"path": "train.csv"}] if protected else [{"path": "train.csv"}, {"path": "test.csv", "split": "test"}]
        policy = CurationPolicy(protected=(ProtectedSet(path="test.csv"),)) if protected else CurationPolicy()
        built = build_snapshot(SnapshotRequest(objective_of(sources, policy), Path(folder), store(), {}, lambda _: None))
        learned = {
            row.provenance.line for row in built.rows if row.provenance.file == "train.csv" and (protected or row.split is not Split.TEST)
        }
        planted_lines = (
            set(range(len(clean) + 2, len(clean) + 2 + len(planted))) if _one_line_each(clean + planted) else _lines(folder, planted)
        )
        # A planted row that repeats another planted one is left out as its duplicate, which is found as well.
        found = 1 - len(learned & planted_lines) / len(planted)
    return {"value": round(found, 4), "bar": 1.0, "unit": "share of planted rows", "holds": found == 1.0, "planted": len(planted)}


def _quoted(text: str) -> str:
    before = "A customer wrote to us yesterday, and nobody knew the answer:"
    return f"{before} {text} I said that we would come back to them, please advise me soon."


def _one_line_each(rows: list[tuple[str, str]]) -> bool:
    return not any("\n" in text for text, _ in rows)


def _lines(folder: str, planted: list[tuple[str, str]]) -> set[int]:
    """The lines on which the planted rows start, counted from the end of the file."""
    total = (Path(folder) / "train.csv").read_text(encoding="utf-8").count("\n")
    lines, line = set(), total + 1
    for text, _ in reversed(planted):
        line -= text.count("\n") + 1
        lines.add(line)
    return lines


def _write(path: Path, rows: list[tuple[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows([("text", "label"), *rows])


if __name__ == "__main__":
    main()
