"""Runs worked on from the record alone: by workers, under limits, cancelled, planned; and named the same wherever they are made."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from support.usecases import VIEWER, write_objective
from tailorbird.domain.errors import Conflict, Exhausted, Forbidden
from tailorbird.domain.ladder import Ladder
from tailorbird.domain.objective import Budget
from tailorbird.domain.release import Release, ReleaseState
from tailorbird.domain.run import RunState, StepState, TrainingProgress
from tailorbird.processes.worker import StepWorker
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.identities import act_as
from tailorbird.usecases.runs import context, engine, queries
from tailorbird.usecases.runs import submit as climbing
from tailorbird.usecases.runs.context import within_budget
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


def test_a_cancelled_run_ends_in_mid_step_and_adapt_takes_it_up_again(
    deps: Dependencies, author: Actor, operator: Actor, objective_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "HEARTBEAT_SECONDS", 0.02)
    run = climbing.submit(deps, author, objective_path, RunState.ACTIVE)

    def cancel_once(done: int, _total: int) -> None:
        if done and queries.show_status(deps, VIEWER, run.id).run.state is RunState.ACTIVE:
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


def test_a_worker_without_the_role_works_on_nothing(deps: Dependencies, author: Actor, objective_path: Path) -> None:
    run = climbing.submit(deps, author, objective_path, RunState.ACTIVE)
    with deps.ledger.work("acme") as work:
        worker = work.identities.get("worker")
        work.identities.replace(worker.model_copy(update={"roles": frozenset()}))
    work_off(deps)
    assert show_run(deps, VIEWER, run.id).steps == ()
