"""What an objective asks of evidence, measured in the climb, judged by the gate, and kept."""

from __future__ import annotations

from pathlib import Path

from support.usecases import write_objective
from tailorbird.domain.evidence import Breakdown, Evidence, GateResult, Retention, Verdict
from tailorbird.domain.ladder import Ladder, SealedTest
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.runs import submit as climbing


def test_a_threshold_calibrated_on_dev_is_kept_on_test_and_released(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    kpis = [{"metric": "coverage", "target": 0.7}, {"metric": "accuracy", "target": 0.8}]
    path = write_objective(tmp_path / "careful", kpis=kpis, referral={"max_error": 0.2})
    ended = climbing.adapt(deps, author, path, Progress())
    assert ended.conclusion.release is not None
    with deps.ledger.work("acme", write=False) as work:
        ladder = work.records.get(Ladder, ended.conclusion.ladder)
        assert ended.conclusion.test is not None
        test = work.records.get(SealedTest, ended.conclusion.test)
        evidence, gate = work.records.get(Evidence, test.evidence), work.records.get(GateResult, test.gate)
        release = work.releases.get(ended.conclusion.release)
    dev = ladder.climbs[-1].evidence
    assert dev.refer_below is not None
    assert dev.refer_below == evidence.refer_below == release.content.refer_below
    assert {finding.name for finding in gate.findings} == {"coverage", "accuracy", "selective_risk"}
    assert evidence.breakdown is not None
    broken = Breakdown.model_validate_json(deps.artifacts.get(evidence.breakdown))
    assert {part.segment for part in broken.slices} >= {"label", "length"}
    assert broken.referral[0].coverage == 1
    wrong = evidence.n - (evidence.metrics["accuracy"].hits or 0)
    assert sum(confusion.count for confusion in broken.confusions) == wrong


def test_limits_on_what_training_costs_are_measured_and_block(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    """The twin of the trainer learns nothing, so its control is not found: the limit stays open, and nothing is released."""
    limits = {"retention": {"max_drop": 0.02}, "memorisation": {"max_extractable": 0}}
    path = write_objective(tmp_path / "guarded", limits=limits, ladder=["lora"])
    ended = climbing.adapt(deps, author, path, Progress())
    assert ended.conclusion.release is None
    with deps.ledger.work("acme", write=False) as work:
        ladder = work.records.get(Ladder, ended.conclusion.ladder)
    (climb,) = ladder.climbs
    findings = {finding.name: finding for finding in climb.gate.findings}
    assert findings["accuracy"].verdict is findings["retention"].verdict is Verdict.PASS
    assert findings["retention"].n >= 300
    assert findings["memorisation"].verdict is Verdict.INCONCLUSIVE
    assert "control" in findings["memorisation"].reason or "carried loss" in findings["memorisation"].reason
    assert climb.evidence.retention is not None
    found = Retention.model_validate_json(deps.artifacts.get(climb.evidence.retention))
    assert found.overall.drop == 0


def test_two_objectives_that_share_a_sealed_test_share_its_error_budget(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    looks = []
    for name in ("desk", "desk-again"):
        ended = climbing.adapt(deps, author, write_objective(tmp_path / name, name=name), Progress())
        assert ended.conclusion.test is not None
        with deps.ledger.work("acme", write=False) as work:
            test = work.records.get(SealedTest, ended.conclusion.test)
            looks.append((test.look, work.records.get(GateResult, test.gate).adjusted_confidence))
    assert [look for look, _ in looks] == [1, 2]
    assert looks[1][1] > looks[0][1]
