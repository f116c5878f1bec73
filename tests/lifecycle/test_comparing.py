"""Any two candidates or runs beside each other, and the page of a run, over a real record."""

from __future__ import annotations

from pathlib import Path

import pytest
from lifecycle_kit import write_objective

from tailorbird.domain.errors import InvalidInput, NotFound
from tailorbird.domain.evidence import Standing
from tailorbird.lifecycle import Actor, Parts, Progress
from tailorbird.lifecycle.explaining.comparing import contrast
from tailorbird.lifecycle.explaining.evidence import evidence_of
from tailorbird.lifecycle.running import adapt as climbing
from tailorbird.reporting import evidence_html


def test_runs_rungs_candidates_and_releases_are_compared(parts: Parts, author: Actor, tmp_path: Path) -> None:
    ended = climbing.adapt(parts, author, write_objective(tmp_path / "job", ladder=["prompt", "lora"]), Progress())
    run = ended.run.id
    within = contrast(parts, "acme", f"{run}:lora", f"{run}:prompt-zero-shot")
    assert {told.metric for told in within.paired} >= {"accuracy", "macro_f1", "balanced_accuracy"}
    assert all(told.difference == 0 for told in within.paired)
    assert within.paired[0].standing in (Standing.TIE, Standing.NOT_PROVEN)
    assert any("dev" in remark for remark in within.remarks)
    assert contrast(parts, "acme", f"{run}:floor", run).paired
    assert ended.conclusion is not None
    assert ended.conclusion.release is not None
    itself = contrast(parts, "acme", ended.conclusion.release, run)
    assert (itself.one.split, itself.one.candidate) == ("test", itself.other.candidate)
    assert contrast(parts, "acme", itself.one.candidate, run).one.candidate == itself.other.candidate
    other = climbing.adapt(parts, author, write_objective(tmp_path / "other", name="desk-two", hard_share=6), Progress())
    unlike = contrast(parts, "acme", run, other.run.id)
    assert not unlike.paired
    assert unlike.unpaired[0].metric == "accuracy"
    assert "unpaired" in unlike.remarks[0]
    with pytest.raises(NotFound):
        contrast(parts, "acme", "nothing", run)
    with pytest.raises(InvalidInput, match="has not measured full"):
        contrast(parts, "acme", f"{run}:full", run)
    page = evidence_html(evidence_of(parts, "acme", run))
    assert "The sealed test" in page
    assert "w31" not in page
