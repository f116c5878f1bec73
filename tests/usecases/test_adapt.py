"""The main verb over a real ledger, with twins for trainer and engine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.usecases import write_objective
from tailorbird.domain.errors import Busy, Forbidden, Internal, ObjectiveInvalid
from tailorbird.domain.evidence import Verdict
from tailorbird.domain.ladder import Choice, Ladder, RungKind
from tailorbird.domain.release import ReleaseState
from tailorbird.domain.run import RunState, StepState
from tailorbird.reporting.documents import evidence_markdown
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.leases import owner
from tailorbird.usecases.maintenance.audit import verify_log
from tailorbird.usecases.runs import submit as climbing
from tailorbird.usecases.runs.engine import LEASE, WorkedRun
from tailorbird.usecases.runs.queries import show_evidence, show_run

SILENT = Progress()


def ladder_of(deps: Dependencies, ended: WorkedRun) -> Ladder:
    with deps.ledger.work("acme", write=False) as work:
        return work.records.get(Ladder, ended.conclusion.ladder)


def test_adapt_climbs_to_a_gated_release(deps: Dependencies, author: Actor, objective_path: Path) -> None:
    ended = climbing.adapt(deps, author, objective_path, SILENT)
    ladder = ladder_of(deps, ended)
    assert ladder.floor is not None
    assert [climb.choice for climb in ladder.climbs] == [Choice.STOP]
    assert ladder.climbs[0].rung is RungKind.PROMPT
    assert ended.conclusion.release is not None
    with deps.ledger.work("acme", write=False) as work:
        release = work.releases.get(ended.conclusion.release)
        assert work.looks.count("desk") == 1
    assert release.state is ReleaseState.GATED
    assert release.dossier.gate_verdict is Verdict.PASS
    assert verify_log(deps, author).intact


def test_adapting_again_does_nothing_twice(deps: Dependencies, author: Actor, objective_path: Path) -> None:
    first = climbing.adapt(deps, author, objective_path, SILENT)
    again = climbing.adapt(deps, author, objective_path, SILENT)
    assert again.resumed == len(first.steps) == len(again.steps)
    assert again.conclusion == first.conclusion
    with deps.ledger.work("acme", write=False) as work:
        assert len(work.releases.all()) == 1
        assert work.looks.count("desk") == 1


def test_a_step_that_failed_is_tried_again_and_the_rest_is_kept(deps: Dependencies, author: Actor, objective_path: Path) -> None:
    def fail(_: str) -> None:
        if "measuring prompt" in _:
            raise Internal("planted for this test", "take it out", code="planted")

    with pytest.raises(Internal, match="planted"):
        climbing.adapt(deps, author, objective_path, Progress(tell=fail))
    with deps.ledger.work("acme", write=False) as work:
        (failed_run,) = work.runs.all()
        last = work.steps.of(failed_run.id)[-1]
    assert failed_run.state is RunState.FAILED
    assert (last.error, last.message, last.hint) == ("planted", "planted for this test", "take it out")
    run = climbing.submit(deps, author, objective_path, RunState.ACTIVE)
    with deps.ledger.work("acme", write=False) as work:
        states = {step.name: step.state for step in work.steps.of(run.id)}
    assert states["make prompt zero-shot"] is StepState.DONE
    ended = climbing.adapt(deps, author, objective_path, SILENT)
    assert ended.resumed == 4
    assert ended.conclusion is not None


def test_an_interruption_gives_the_step_back(deps: Dependencies, author: Actor, objective_path: Path) -> None:
    def interrupt(message: str) -> None:
        if "measuring prompt" in message:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        climbing.adapt(deps, author, objective_path, Progress(tell=interrupt))
    run = climbing.submit(deps, author, objective_path, RunState.ACTIVE)
    with deps.ledger.work("acme", write=False) as work:
        assert work.steps.of(run.id)[-1].state is StepState.READY
        assert work.runs.get(run.id).state is RunState.ACTIVE


def test_two_adapts_of_one_objective_at_once(deps: Dependencies, author: Actor, objective_path: Path) -> None:
    """The second one is told who works on the run; the lease belongs to a process that lives."""
    run = climbing.submit(deps, author, objective_path, RunState.ACTIVE)
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        holder = owner(other.pid)
        with deps.ledger.work("acme") as work:
            work.steps.enqueue(run.id, "snapshot")
            assert work.steps.lease(run.id, holder, LEASE) is not None
        with pytest.raises(Busy, match=str(other.pid)):
            climbing.adapt(deps, author, objective_path, SILENT)
    finally:
        other.kill()
        other.wait()


def test_the_sealed_test_is_not_opened_when_no_rung_passes(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    path = write_objective(tmp_path / "hard", hard_share=2, ladder=["prompt"])
    ended = climbing.adapt(deps, author, path, SILENT)
    assert ended.conclusion.release is None
    assert ended.conclusion.test is None
    ladder = ladder_of(deps, ended)
    assert ladder.chosen is None
    assert "no rung passes on dev" in ladder.reason
    report = show_run(deps, author, run=ended.run.id)
    assert any("a `target` of at most" in line for line in report.remedies), report.remedies
    evidence = evidence_markdown(show_evidence(deps, author, run=ended.run.id))
    assert "## What could lead to a release" in evidence
    assert climbing.submit(deps, author, path, RunState.ACTIVE).state is RunState.NO_RELEASE, "it is over, and not begun again"
    with deps.ledger.work("acme", write=False) as work:
        assert work.looks.count("desk") == 0


def test_who_is_no_author_may_not_adapt_and_the_denial_is_logged(deps: Dependencies, operator: Actor, objective_path: Path) -> None:
    with pytest.raises(Forbidden, match="author"):
        climbing.adapt(deps, operator, objective_path, SILENT)
    with deps.ledger.system(write=False) as system:
        assert [entry.event.kind for entry in system.events.entries()][-1] == "access.denied"


def test_an_objective_of_another_tenant_is_refused(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    path = write_objective(tmp_path / "other", tenant="globex")
    with pytest.raises(Forbidden, match="globex"):
        climbing.adapt(deps, author, path, SILENT)


def test_a_target_that_the_test_set_cannot_prove_is_refused_before_anything_is_spent(
    deps: Dependencies, author: Actor, tmp_path: Path
) -> None:
    path = write_objective(tmp_path / "bold", kpis=[{"metric": "accuracy", "target": 0.999}])
    with pytest.raises(ObjectiveInvalid) as caught:
        climbing.adapt(deps, author, path, SILENT)
    assert caught.value.line > 0
    assert not (deps.workspace / "models").exists()
