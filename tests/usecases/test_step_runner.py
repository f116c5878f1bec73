"""Runs worked on from the record alone: by workers, under limits, cancelled, planned; and named the same wherever they are made."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from support.usecases import VIEWER, write_objective
from tailorbird.domain.errors import Conflict, Exhausted, Forbidden, LeaseLost, TailorbirdError
from tailorbird.domain.ladder import Ladder
from tailorbird.domain.objective import Budget
from tailorbird.domain.release import Release, ReleaseState
from tailorbird.domain.run import RunState, StepState, TrainingProgress
from tailorbird.processes.worker import StepWorker
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.identities import act_as
from tailorbird.usecases.releases import promotion as moves
from tailorbird.usecases.runs import context, engine, queries
from tailorbird.usecases.runs import submit as climbing
from tailorbird.usecases.runs.context import WatchedProgress, within_budget
from tailorbird.usecases.runs.queries import show_run
from tailorbird.usecases.runs.transitions import Spent
from tailorbird.usecases.snapshots import PROVENANCE

SILENT = Progress()


def work_off(deps: Dependencies) -> None:
    """One worker, until nothing waits."""
    StepWorker(deps, SILENT, lambda _: None, once=True).run()


def the_release(deps: Dependencies) -> Release:
    with deps.ledger.work("acme", write=False) as work:
        (found,) = work.releases.all()
    return found


def test_a_worker_finishes_what_an_author_submitted_and_signs_for_them(deps: Dependencies, author: Actor, objective_path: Path) -> None:
    run = climbing.submit(deps, author, objective_path, RunState.ACTIVE)
    work_off(deps)
    found = show_run(deps, VIEWER, run.id)
    assert found.run.state is RunState.DONE
    assert found.conclusion is not None
    release = the_release(deps)
    assert release.state is ReleaseState.GATED
    assert (release.content.author, release.signature.identity) == ("author", "worker")


def test_what_a_worker_signed_goes_the_whole_way_but_not_through_its_author(
    deps: Dependencies, author: Actor, approver: Actor, operator: Actor, objective_path: Path
) -> None:
    climbing.submit(deps, author, objective_path, RunState.ACTIVE)
    work_off(deps)
    digest = the_release(deps).digest
    with pytest.raises(Forbidden):
        moves.sign_and_decide(deps, author, digest, "approve", "")
    moves.sign_and_decide(deps, approver, digest, "approve", "read")
    moves.stage(deps, operator, digest)
    assert moves.promote(deps, operator, digest).alias.targets[0].release == digest


def test_the_same_inputs_give_the_same_release_in_another_workspace(
    deps: Dependencies,
    another_parts: Callable[[], Dependencies],
    author: Actor,
    objective_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of one tenant, that is: the seal of a snapshot is salted with the tenant's secret, which the second workspace is given too."""
    with deps.ledger.work("acme", write=False) as work:
        secret = work.secrets.get(PROVENANCE)
    monkeypatch.setattr("tailorbird.ledger.tenants.randomness", SimpleNamespace(token_hex=lambda _size: secret.hex()))
    climbing.adapt(deps, author, objective_path, SILENT)
    elsewhere = another_parts()
    there = act_as(elsewhere, "acme", "author")
    climbing.adapt(elsewhere, there, write_objective(tmp_path / "copy"), SILENT)
    here, other = the_release(deps), the_release(elsewhere)
    assert here.digest == other.digest
    assert here.signature.public_key != other.signature.public_key


def test_a_run_that_is_only_planned_is_planned_and_left(deps: Dependencies, author: Actor, objective_path: Path) -> None:
    run = climbing.submit(deps, author, objective_path, RunState.PLANNING)
    work_off(deps)
    found = show_run(deps, VIEWER, run.id)
    assert found.run.state is RunState.PLANNED
    assert found.plan is not None
    assert found.ladder is None
    work_off(deps)
    assert show_run(deps, VIEWER, run.id).run.state is RunState.PLANNED
    assert climbing.adapt(deps, author, objective_path, SILENT).resumed == 2


def test_a_cancelled_run_ends_in_mid_step_and_adapt_takes_it_up_again(
    deps: Dependencies, author: Actor, operator: Actor, objective_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "HEARTBEAT_SECONDS", 0.02)
    run = climbing.submit(deps, author, objective_path, RunState.ACTIVE)

    def cancel_once(done: int, _total: int) -> None:
        if done and queries.show_job(deps, VIEWER, run.id).run.state is RunState.ACTIVE:
            queries.cancel_run(deps, operator, run.id)
        time.sleep(0.01)

    with pytest.raises(Conflict) as caught:
        climbing.adapt(deps, author, objective_path, Progress(count=cancel_once))
    assert caught.value.error_code == "run_cancelled"
    found = show_run(deps, VIEWER, run.id)
    assert found.run.state is RunState.CANCELLED
    assert found.steps[-1].state is StepState.READY
    work_off(deps)
    assert show_run(deps, VIEWER, run.id).run.state is RunState.CANCELLED
    assert climbing.adapt(deps, author, objective_path, SILENT).conclusion is not None


def test_a_finished_run_cannot_be_cancelled(deps: Dependencies, author: Actor, objective_path: Path) -> None:
    run = climbing.adapt(deps, author, objective_path, SILENT).run
    with pytest.raises(Conflict, match="is over already: done"):
        queries.cancel_run(deps, author, run.id)


def test_a_job_tells_who_works_on_it_and_how_far(
    deps: Dependencies, author: Actor, objective_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "HEARTBEAT_SECONDS", 0.02)
    working_on: list[queries.Job] = []

    def look(done: int, _total: int) -> None:
        if done and not working_on:
            time.sleep(0.1)
            seen = queries.list_jobs(deps, VIEWER).jobs
            working_on.extend(job for job in seen if job.working and job.step and job.step.progress and job.step.progress.total)

    climbing.adapt(deps, author, objective_path, Progress(count=look))
    assert working_on
    assert working_on[0].step is not None
    assert working_on[0].step.name.startswith("measure")
    assert queries.list_jobs(deps, VIEWER).jobs == ()


def test_the_budget_ends_a_rung_in_mid_training_and_what_was_measured_is_chosen_from(
    deps: Dependencies, author: Actor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock:
        """Hours pass as soon as something is trained."""

        hours = 0.0

        def monotonic(self) -> float:
            return self.hours * 3600

    clock = Clock()
    monkeypatch.setattr(context, "time", clock)

    def tire(seen: TrainingProgress) -> None:
        clock.hours += 2.0

    path = write_objective(tmp_path / "long", ladder=["prompt", "lora", "full"])
    ended = climbing.adapt(deps, author, path, Progress(training=tire))
    found = show_run(deps, VIEWER, ended.run.id)
    ladder = found.ladder
    assert isinstance(ladder, Ladder)
    assert [climb.rung.value for climb in ladder.climbs][-1] == "prompt"
    assert ladder.chosen is not None
    reasons = {refusal.rung.value: refusal.reason for refusal in ladder.refused}
    assert "budget of 1 h is used up" in reasons["lora"]
    assert "the budget does not allow it" in reasons["full"]
    assert found.conclusion is not None
    assert found.conclusion.release is not None


@pytest.mark.parametrize(
    ("budget", "spent", "says"),
    [
        (Budget(hours=1.0), Spent(hours=1.01, money=0.0), "1 h"),
        (Budget(money=2.0), Spent(hours=0.1, money=2.01), "2 EUR"),
    ],
)
def test_both_limits_raise_from_a_callback(budget: Budget, spent: Spent, says: str) -> None:
    progress = within_budget(SILENT, budget, spent, per_hour=1.0)
    with pytest.raises(Exhausted, match=says) as caught:
        progress.count(1, 2)
    assert caught.value.error_code == "budget_spent"


def test_a_finished_training_is_not_thrown_away_at_its_last_step() -> None:
    progress = within_budget(SILENT, Budget(hours=1.0), Spent(hours=2.0, money=0.0), per_hour=0.0)
    last = TrainingProgress(
        step=9, steps=9, loss=1, held_out_loss=None, learning_rate=0, tokens=1, tokens_per_second=1, memory_gb=1, seconds=1
    )
    progress.training(last)
    with pytest.raises(Exhausted):
        progress.training(last.model_copy(update={"step": 8}))


def test_a_watched_step_remembers_how_far_it_is_and_ends_when_told() -> None:
    watched = WatchedProgress(SILENT)
    progress = watched.progress()
    progress.tell("measuring")
    progress.count(3, 10)
    assert (watched.last.text, watched.last.done, watched.last.total) == ("measuring", 3, 10)
    progress.tell("more")
    assert (watched.last.text, watched.last.done, watched.last.total) == ("more", 3, 10), "a worker that dies now came as far as that"
    watched.end(LeaseLost("gone", "nothing"))
    with pytest.raises(LeaseLost):
        progress.count(4, 10)


def test_a_lost_lease_commits_nothing(deps: Dependencies, author: Actor, objective_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker was thought dead; another took the step over in the middle of it."""
    monkeypatch.setattr(engine, "LEASE", engine.LEASE * 0)
    run = climbing.submit(deps, author, objective_path, RunState.ACTIVE)
    stolen: list[str] = []

    def steal(text: str) -> None:
        if text.startswith("step ") or stolen:
            return
        with deps.ledger.work("acme") as work:
            taken = work.steps.lease(run.id, "other:1", engine.LEASE)
        assert taken is not None
        stolen.append(taken.name)

    with pytest.raises(LeaseLost):
        climbing.adapt(deps, author, objective_path, Progress(tell=steal))
    found = show_run(deps, VIEWER, run.id)
    assert found.steps[-1].owner == "other:1"
    assert stolen[0] not in {step.name for step in found.steps if step.state is StepState.DONE}


def test_an_error_in_a_workers_run_leaves_the_others_alone(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    bad = climbing.submit(deps, author, write_objective(tmp_path / "bad", name="bad"), RunState.ACTIVE)
    (tmp_path / "bad" / "rows.csv").unlink()
    good = climbing.submit(deps, author, write_objective(tmp_path / "good", name="good"), RunState.ACTIVE)
    told: list[str] = []
    StepWorker(deps, SILENT, told.append, once=True).run()
    assert show_run(deps, VIEWER, bad.id).run.state is RunState.FAILED
    assert show_run(deps, VIEWER, good.id).run.state is RunState.DONE
    assert any("error[" in line for line in told)


def test_a_defect_fails_the_step_and_ends_no_other_worker(
    deps: Dependencies, author: Actor, objective_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = climbing.submit(deps, author, objective_path, RunState.ACTIVE)

    def defect(_: str) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        climbing.adapt(deps, author, objective_path, Progress(tell=lambda text: None if text.startswith("step ") else defect(text)))
    found = show_run(deps, VIEWER, run.id)
    assert (found.run.state, found.steps[-1].state, found.steps[-1].error) == (RunState.FAILED, StepState.FAILED, "internal")
    assert climbing.adapt(deps, author, objective_path, SILENT).conclusion is not None


def test_a_failed_plan_is_tried_again_by_plan(deps: Dependencies, author: Actor, objective_path: Path) -> None:
    rows = objective_path.parent / "base" / "config.json"
    kept = rows.read_text()
    rows.unlink()
    with pytest.raises(TailorbirdError):
        climbing.plan(deps, author, objective_path, SILENT)
    rows.write_text(kept)
    assert climbing.plan(deps, author, objective_path, SILENT).plan is not None


def test_a_run_that_was_cancelled_while_its_last_step_was_done_stays_cancelled(
    deps: Dependencies, author: Actor, operator: Actor, objective_path: Path
) -> None:
    run = climbing.submit(deps, author, objective_path, RunState.ACTIVE)

    def cancel(text: str) -> None:
        if text == "step conclude":
            queries.cancel_run(deps, operator, run.id)

    with pytest.raises(Conflict) as caught:
        climbing.adapt(deps, author, objective_path, Progress(tell=cancel))
    assert caught.value.error_code == "run_cancelled"
    assert show_run(deps, VIEWER, run.id).run.state is RunState.CANCELLED
    with deps.ledger.work("acme", write=False) as work:
        assert work.releases.all() == ()


def test_nobody_finishes_anothers_run_in_the_foreground(deps: Dependencies, author: Actor, objective_path: Path) -> None:
    climbing.plan(deps, author, objective_path, SILENT)
    with deps.ledger.work("acme") as work:
        worker = work.identities.get("viewer")
        work.identities.replace(worker.model_copy(update={"roles": author.identity.roles}))
    with pytest.raises(Forbidden, match="cannot sign for them"):
        climbing.adapt(deps, act_as(deps, "acme", "viewer"), objective_path, SILENT)


def test_a_step_that_kills_its_worker_again_and_again_is_given_up(
    deps: Dependencies, author: Actor, objective_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "MOST_ATTEMPTS", 1)
    with pytest.raises(Exhausted, match="without a result"):
        climbing.adapt(deps, author, objective_path, SILENT)


def test_a_step_that_killed_two_workers_is_set_aside_with_the_reason(
    deps: Dependencies, author: Actor, objective_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailorbird.ledger.runs.WORKED", timedelta(0))
    run = climbing.submit(deps, author, objective_path, RunState.ACTIVE)
    moment = timedelta(0)
    for _ in range(2):
        with deps.ledger.work("acme") as work:
            step = work.steps.enqueue(run.id, "snapshot")
            assert work.steps.lease(run.id, "elsewhere:1", moment) is not None
    monkeypatch.setattr(engine, "LEASE", moment)
    said: list[str] = []
    StepWorker(deps, SILENT, said.append, once=True).run()
    (step,) = show_run(deps, VIEWER, run.id).steps
    assert (step.state, step.error, step.deaths) == (StepState.FAILED, "step_hopeless", 2)
    assert "is set aside: it ended 2 processes" in " ".join(said)
    monkeypatch.undo()
    assert climbing.adapt(deps, author, objective_path, SILENT).conclusion is not None


def test_seconds_of_failed_attempts_count(deps: Dependencies, author: Actor, objective_path: Path) -> None:
    def tire(text: str) -> None:
        if "measuring prompt" in text:
            time.sleep(0.2)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        climbing.adapt(deps, author, objective_path, Progress(tell=tire))
    run = climbing.submit(deps, author, objective_path, RunState.ACTIVE)
    assert show_run(deps, VIEWER, run.id).steps[-1].seconds >= 0.2


def test_a_worker_without_the_role_works_on_nothing(deps: Dependencies, author: Actor, objective_path: Path) -> None:
    run = climbing.submit(deps, author, objective_path, RunState.ACTIVE)
    with deps.ledger.work("acme") as work:
        worker = work.identities.get("worker")
        work.identities.replace(worker.model_copy(update={"roles": frozenset()}))
    work_off(deps)
    assert show_run(deps, VIEWER, run.id).steps == ()
