"""The reports of three real data sets, as Markdown tables: ``python benchmarks/data/real_sets.py``. Counts only, no texts.

banking77        with its official test set
bitext_support   instruction → answer, with offensive rows, noise and templates
unfair_tos       several labels a sentence, split by document
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from objectives import objective_of, store
from rows import DATA

from tailorbird.data import SnapshotRequest, build_snapshot
from tailorbird.domain.curation import CurationPolicy, CurationReport, QualityPolicy
from tailorbird.domain.dataset import SnapshotManifest
from tailorbird.domain.objective import Objective, TaskKind

ENGLISH = CurationPolicy(quality=QualityPolicy(languages=("en",)))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        sets = {
            "banking77": objective_of(
                [
                    {"path": "banking77/train.csv", "label": "category"},
                    {"path": "banking77/test.csv", "label": "category", "split": "test"},
                ],
                ENGLISH,
            ),
            "bitext_support": objective_of(
                [{"path": "bitext_support/bitext_responses_4514.csv", "text": "instruction", "label": "response"}],
                ENGLISH,
                TaskKind.GENERATE,
            ),
            "unfair_tos": _unfair(Path(folder)),
        }
        for name, objective in sets.items():
            start = time.perf_counter()
            root = Path(folder) if name == "unfair_tos" else DATA
            built = build_snapshot(SnapshotRequest(objective, root, store(), {}, lambda _: None))
            print(_section(name, built.manifest, built.report, time.perf_counter() - start))


def _unfair(folder: Path) -> Objective:
    """Its files keep labels as a list; documents are subjects, so that one document stays on one side."""
    rows: list[dict[str, Any]] = []
    for line in (DATA / "unfair_tos" / "unfair_tos_en.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        rows.append({"text": row["text"], "labels": row["labels"], "doc": row["doc"]})
    (folder / "unfair_tos.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return objective_of([{"path": "unfair_tos.jsonl", "label": "labels", "subject": "doc"}], ENGLISH, labels="many")


def _section(name: str, manifest: SnapshotManifest, report: CurationReport, seconds: float) -> str:
    print(f"{name}: {seconds:.1f} s", file=sys.stderr)
    lines = [f"### {name}", "", "| step | rows in | rows out | why rows went |", "|---|---|---|---|"]
    for step in report.flow:
        reasons = ", ".join(f"`{code}` {count:,}" for code, count in step.reasons.items())
        lines.append(f"| {step.name} | {step.before:,} | {step.after:,} | {reasons} |")
    counts, groups = manifest.counts, [len(group.rows) for group in report.groups]
    personal = ", ".join(f"{one.kind.value} {one.occurrences:,} in {one.rows:,} rows" for one in report.personal)
    quality = ", ".join(f"{rule} {count:,}" for rule, count in report.quality.items())
    lines += [
        "",
        "| found | |",
        "|---|---|",
        f"| train, dev, test | {counts.train:,}, {counts.dev:,}, {counts.test:,} |",
        f"| near-duplicate groups | {report.group_count:,}, the largest of {max(groups, default=0):,} rows; {report.conflicting_groups:,} with more than one label |",
        f"| personal data | {personal or 'none'} |",
        f"| quality | {quality or 'nothing'} |",
        f"| labels | {len(report.profile.classes):,}, {sum(one.rare for one in report.profile.classes):,} of them rare; the largest has {report.profile.imbalance:g} times the rows of the smallest |",
        f"| what the test rows can prove | a share to within ± {report.profile.smallest_provable:g} |",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
