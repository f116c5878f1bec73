"""The rungs that look something up, played to their ends with twins: ranking, grounding; and a rung that breaks off."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from support.doubles import MemoryEncoder, MemoryTrainer
from support.ranking import EncoderReader, write_ranking
from support.usecases import NO_REFERRAL, VIEWER, write_objective
from tailorbird.domain.errors import Conflict, Forbidden
from tailorbird.domain.evidence import Verdict
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.objective import RiskTier
from tailorbird.domain.run import RunState
from tailorbird.ports.trainer import ReportProgress, TrainedModel, TrainingJob
from tailorbird.reporting.documents import evidence_markdown
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.identities import act_as
from tailorbird.usecases.maintenance.audit import read_log
from tailorbird.usecases.runs import queries
from tailorbird.usecases.runs.queries import RunReport, show_evidence, show_run
from tailorbird.usecases.runs.submit import adapt


class BreakingTrainer(MemoryTrainer):
    """Breaks off with an error that is not ours."""

    def train(self, job: TrainingJob, report: ReportProgress) -> TrainedModel:
        raise ZeroDivisionError("a row's text could stand here")


def climbed(deps: Dependencies, actor: Actor, path: Path) -> RunReport:
    return show_run(deps, VIEWER, adapt(deps, actor, path, Progress()).run.id)


def test_ranking_stops_on_words_where_words_suffice_and_is_released(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    ranking = replace(deps, model_reader=EncoderReader, encoder=MemoryEncoder)
    told = climbed(ranking, author, write_ranking(tmp_path / "ranking"))
    assert [(one.rung, one.variant) for one in told.ladder.climbs] == [(RungKind.SEARCH, "words")]
    assert told.evidence.metrics["ndcg@10"].low > 0.7
    assert told.conclusion.release is not None
    with deps.ledger.work("acme", write=False) as work:
        content = work.releases.get(told.conclusion.release).content
    assert content.retrieval.what == "documents"
    assert deps.artifacts.exists(content.retrieval.index)


def test_a_rung_that_breaks_off_is_evidence_and_the_ladder_goes_on(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    path = write_objective(tmp_path / "hard", hard_share=2, ladder=["prompt", "lora", "full"])
    told = climbed(replace(deps, trainer=BreakingTrainer), author, path)
    reasons = {refusal.rung: refusal.reason for refusal in told.ladder.refused}
    assert "failed while it was being made: it broke off with ZeroDivisionError" in reasons[RungKind.LORA]
    assert "failed" in reasons[RungKind.FULL]
    assert "row's text" not in json.dumps(reasons)
    assert told.conclusion is not None


def test_all_weights_at_high_risk_wait_for_leave_that_the_author_cannot_give(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    business = {"goal": "Route.", "owner": "support", "risk": RiskTier.HIGH.value}
    path = write_objective(tmp_path / "high", hard_share=1000, ladder=["floor", "full"], business=business, exceptions=NO_REFERRAL)
    with pytest.raises(Conflict) as told:
        adapt(deps, author, path, Progress())
    assert told.value.error_code == "rung_not_allowed"
    assert "no cheaper rung passes" not in told.value.message
    with deps.ledger.work("acme", write=False) as work:
        run = work.runs.all()[0].id
        assert work.runs.get(run).state is RunState.WAITING
    so_far = show_evidence(deps, VIEWER, run).ladder
    assert [(climb.rung, climb.gate.verdict) for climb in so_far.measured] == [(RungKind.FLOOR, Verdict.PASS)]
    assert told.value.message in so_far.reason
    with pytest.raises(Forbidden):
        queries.allow(deps, author, run, RungKind.FULL, "mine")
    queries.allow(deps, act_as(deps, "acme", "approver"), run, RungKind.FULL, "the gate asks for it")
    assert climbed(deps, author, path).ladder is not None
    evidence = show_evidence(deps, VIEWER, run)
    said = "approver allowed the rung full: the gate asks for it"
    assert said in evidence_markdown(evidence)
    entries = read_log(deps, VIEWER, subject=run)
    assert "the gate asks for it" in entries.model_dump_json()
