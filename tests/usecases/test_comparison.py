"""Any two candidates or runs beside each other, and the page of a run, over a real record."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.usecases import VIEWER, write_objective
from tailorbird.domain.errors import InvalidInput, NotFound
from tailorbird.domain.evidence import Standing
from tailorbird.reporting.documents import evidence_markdown
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.runs import submit as climbing
from tailorbird.usecases.runs.queries import compare, show_evidence


def test_runs_rungs_candidates_and_releases_are_compared(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    ended = climbing.adapt(deps, author, write_objective(tmp_path / "job", ladder=["prompt", "lora"]), Progress())
    run = ended.run.id
    within = compare(deps, VIEWER, f"{run}:lora", f"{run}:prompt-zero-shot")
    assert {told.metric for told in within.paired} >= {"accuracy", "macro_f1", "balanced_accuracy"}
    assert all(told.difference == 0 for told in within.paired)
    assert within.paired[0].standing in (Standing.TIE, Standing.NOT_PROVEN)
    assert any("dev" in remark for remark in within.remarks)
    floor = compare(deps, VIEWER, f"{run}:floor", run)
    assert floor.paired
    assert compare(deps, VIEWER, floor.one.candidate[:20], run).one.candidate == floor.one.candidate
    assert ended.conclusion.release is not None
    itself = compare(deps, VIEWER, ended.conclusion.release, run)
    assert (itself.one.split, itself.one.candidate) == ("test", itself.other.candidate)
    assert compare(deps, VIEWER, itself.one.candidate, run).one.candidate == itself.other.candidate
    other = climbing.adapt(deps, author, write_objective(tmp_path / "other", name="desk-two", hard_share=6), Progress())
    unlike = compare(deps, VIEWER, run, other.run.id)
    assert not unlike.paired
    assert "not measured on the same items" in unlike.remarks[0]
    with pytest.raises(NotFound):
        compare(deps, VIEWER, "nothing", run)
    with pytest.raises(InvalidInput, match="has not measured full"):
        compare(deps, VIEWER, f"{run}:full", run)
    page = evidence_markdown(show_evidence(deps, VIEWER, run))
    assert "test split, look 1" in page
    assert "w31" not in page
