"""The shifted part of the data, from the objective to the gate: measured apart, limited, told, and never learned from."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from support.usecases import LABELS, VIEWER, write_objective
from tailorbird.domain.dataset import SnapshotManifest, Split
from tailorbird.domain.errors import ObjectiveInvalid
from tailorbird.domain.evidence import Evidence, GateResult, Verdict
from tailorbird.domain.ladder import Ladder, SealedTest
from tailorbird.reporting.documents import evidence_markdown
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.runs import submit as climbing
from tailorbird.usecases.runs.engine import WorkedRun
from tailorbird.usecases.runs.queries import show_evidence


def write_shifted(folder: Path, *, misleading: int, **changes: object) -> Path:
    """The desk's rows over ten months. In the last two, every ``misleading``-th message names another label than its own, which the twins
    go by; in the months before, every 20th does."""
    changes = {"split": {"by": "month"}, "limits": {"shift": {"max_drop": 0.15}}, "ladder": ["prompt", "lora", "full"]} | changes
    path = write_objective(folder, hard_share=10**6, **changes)
    with (folder / "rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "month"])
        for number, row in enumerate(rows):
            month, every = 1 + number % 10, misleading if number % 10 >= 8 else 20
            wrong = LABELS[(LABELS.index(row["label"]) + 1) % 3]
            text = row["text"].removesuffix(row["label"]) + wrong if number // 10 % every == 0 else row["text"]
            writer.writerow([text, row["label"], f"2024-{month:02d}"])
    return path


def told(deps: Dependencies, ended: WorkedRun) -> tuple[Ladder, Evidence | None, GateResult | None, SnapshotManifest]:
    with deps.ledger.work("acme", write=False) as work:
        ladder = work.records.get(Ladder, ended.conclusion.ladder)
        snapshot = next(step.result for step in ended.steps if step.name == "snapshot")
        manifest = work.records.get(SnapshotManifest, str(snapshot))
        if ended.conclusion.test is None:
            return ladder, None, None, manifest
        test = work.records.get(SealedTest, ended.conclusion.test)
        return ladder, work.records.get(Evidence, test.evidence), work.records.get(GateResult, test.gate), manifest


def test_a_candidate_that_holds_where_the_data_shifted_is_released_with_the_drop_on_record(
    deps: Dependencies, author: Actor, tmp_path: Path
) -> None:
    ended = climbing.adapt(deps, author, write_shifted(tmp_path / "job", misleading=20), Progress())
    ladder, evidence, gate, manifest = told(deps, ended)
    assert ended.conclusion.release is not None
    (finding,) = [finding for finding in gate.findings if finding.name == "shift"]
    assert finding.verdict is Verdict.PASS
    assert finding.high is not None
    assert finding.high <= 0.15
    assert finding.n == manifest.shift.counts.test
    assert evidence.n == manifest.counts.test - manifest.shift.counts.test
    assert evidence.shifted_metrics["accuracy"].n == manifest.shift.counts.test
    drop = evidence.metrics["accuracy"].value - evidence.shifted_metrics["accuracy"].value
    assert evidence.metrics["shift"].value == pytest.approx(drop)
    lora, full = (climb for climb in ladder.climbs if climb.rung.value in ("lora", "full"))
    (pair,) = ladder.on_shifted
    assert (pair.upper, pair.lower, pair.n) == (full.candidate, lora.candidate, manifest.shift.counts.dev)
    page = show_evidence(deps, VIEWER, ended.run.id)
    text = evidence_markdown(page)
    assert "Where the data have shifted" in text
    assert "full full against lora" in text.replace(full.variant, "full")
    with deps.ledger.work("acme", write=False) as work:
        card = deps.artifacts.get(work.releases.get(ended.conclusion.release).dossier.card).decode()
    assert "on the shifted part" in card


def test_a_candidate_that_fails_where_the_data_shifted_is_not_chosen_however_good_it_is_elsewhere(
    deps: Dependencies, author: Actor, tmp_path: Path
) -> None:
    ended = climbing.adapt(deps, author, write_shifted(tmp_path / "job", misleading=2), Progress())
    ladder, *_ = told(deps, ended)
    assert ladder.chosen is None
    for climb in ladder.measured:
        (finding,) = [finding for finding in climb.gate.findings if finding.name == "shift"]
        if climb.rung.value != "floor":
            assert climb.gate.findings[0].verdict is Verdict.PASS
            assert finding.verdict is Verdict.FAIL
    assert ended.conclusion.release is None


def test_what_the_shifted_part_cannot_prove_is_refused_before_anything_is_spent(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    path = write_shifted(tmp_path / "job", misleading=20, limits={"shift": {"max_drop": 0.001}})
    with pytest.raises(ObjectiveInvalid, match=r"rows of the shifted part in dev cannot prove a drop of at most 0\.001") as refused:
        climbing.plan(deps, author, path, Progress())
    assert refused.value.line == next(n for n, line in enumerate(path.read_text().splitlines(), 1) if "max_drop" in line)
    assert "raise `max_drop` to 0.0" in refused.value.hint
    raised = refused.value.hint.rpartition("raise `max_drop` to ")[2]
    path.write_text(path.read_text().replace("max_drop: 0.001", f"max_drop: {max(0.05, float(raised))}"))
    stage = climbing.plan(deps, author, path, Progress())
    assert [power.split for power in stage.plan.shift] == [Split.DEV, Split.TEST]
    assert all(0 < power.open <= 0.05 for power in stage.plan.shift)
