"""A candidate with a label that the release in production does not know is compared with it on the labels that both know."""

from __future__ import annotations

import csv
from pathlib import Path

from support.usecases import LABELS, VIEWER, write_objective
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.releases import promotion
from tailorbird.usecases.runs import submit as climbing
from tailorbird.usecases.runs.queries import show_run


def append_rows(folder: Path, label: str, count: int) -> None:
    """Rows of a label that no row had before."""
    with (folder / "rows.csv").open("a", newline="") as file:
        for number in range(count):
            words = " ".join(f"n{(number * factor) % 9973}" for factor in (31, 577, 1009, 4001))
            csv.writer(file).writerow([f"case {number * 104729 % 1000003} {words} {label}", label])


def test_rows_of_a_new_label_are_appended_and_the_old_labels_are_compared(
    deps: Dependencies, author: Actor, approver: Actor, operator: Actor, tmp_path: Path
) -> None:
    path = write_objective(tmp_path / "job")
    first = climbing.adapt(deps, author, path, Progress())
    assert first.conclusion.release is not None
    promotion.sign_and_decide(deps, approver, first.conclusion.release, "approve", "read")
    promotion.stage(deps, operator, first.conclusion.release)
    promotion.promote(deps, operator, first.conclusion.release)
    append_rows(path.parent, "invoice", 240)
    found = show_run(deps, VIEWER, climbing.adapt(deps, author, path, Progress()).run.id)
    assert set(found.manifest.labels) == {*LABELS, "invoice"}
    compared = found.evidence.against_incumbent
    assert compared.labels == tuple(sorted(LABELS))
    assert 0 < compared.n < found.evidence.n, "items of the new label are left out"
    assert compared.difference == 0, "a gain in the new label is no gain against a release that does not know it"
    (limit,) = [limit for limit in found.gate.findings if limit.name == "against_incumbent"]
    assert "accuracy against_incumbent (over the 3 labels that both know) 0.000 is proven" in limit.reason
