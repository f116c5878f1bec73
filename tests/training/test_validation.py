"""A run that has not begun to learn keeps its rate up and is lengthened; it stays exact when it is killed on the way."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest

from support.training_samples import MakeJob, settings
from tailorbird.domain.run import TrainingProgress, TrainingReport
from tailorbird.training import open_trainer
from tailorbird.training.batches import TokenizedRow
from tailorbird.training.checkpoints import LoopState
from tailorbird.training.loop import Plateau, TrainingCourse
from training.test_checkpoints import sha256, train_until_killed
from training.test_process_group import in_team

#: Four answers of one token, the first of which half of the rows have.
TRAIN = [TokenizedRow((1, answer, 0), 1) for answer in (5, 5, 5, 5, 6, 6, 7, 8)]
#: A rate at which nothing is learned.
STILL = 1e-7


def quiet(line: TrainingProgress) -> None:
    """Sees a step and says nothing."""


def plateau(labels: bool = True, rows: list[TokenizedRow] = TRAIN) -> Plateau:
    """Of 100 planned steps in 5 passes, to which 60 may be added."""
    of = settings(epochs=5, warmup=0.1, waiting_epochs=3)
    batches = SimpleNamespace(steps=100, steps_per_epoch=20)
    return Plateau(TrainingCourse(rows, rows, of, labels), batches)  # type: ignore[arg-type]


def after(state: LoopState, step: int, loss: float, labels: bool = True) -> LoopState:
    moved = state.model_copy(update={"step": step, "best_row_losses": (loss,) * 8})
    return plateau(labels).judged(moved, [loss] * 8)


def line(step: int, loss: float) -> TrainingProgress:
    return TrainingProgress(
        step=step, steps=100, loss=loss, held_out_loss=None, learning_rate=0, tokens=0, tokens_per_second=0, memory_gb=0, seconds=0
    )


def entropy() -> float:
    return -(math.log(0.5) / 2 + math.log(0.25) / 4 + math.log(0.125) / 4)


def test_the_schedule_stands_still_while_the_loss_is_that_of_label_frequencies() -> None:
    state = after(LoopState(), 20, entropy())
    assert state.waited == 0, "a quarter of the steps is for everybody"
    state = after(after(state, 40, entropy()), 60, entropy())
    assert (state.waited, state.waits) == (35, (40, 60))
    assert state.step - state.waited == 25, "the place in the schedule at which it waits"
    state = after(after(state, 80, entropy()), 100, entropy())
    assert (state.waited, state.waits) == (60, (40, 60, 80, 100)), "no more than may be added"
    told = plateau().told(after(state, 120, entropy()))
    assert told is not None
    assert (told.added, told.left, told.loss, told.held_out) == (60, None, pytest.approx(entropy()), pytest.approx(entropy()))


def test_a_run_that_has_left_goes_on_to_its_end_whatever_comes() -> None:
    state = after(after(LoopState(), 40, entropy()), 60, 0.5 * entropy())
    assert (state.waited, state.left_plateau) == (15, 60)
    again = after(state, 80, 2 * entropy())
    assert (again.waited, again.left_plateau) == (15, 60)
    told = plateau().told(again)
    assert told is not None
    assert (told.added, told.left) == (15, 60)


def test_a_run_that_learns_from_the_start_has_no_plateau() -> None:
    assert plateau().told(after(LoopState(), 20, 0.5 * entropy())) is None


def test_a_little_below_is_not_left() -> None:
    assert after(LoopState(), 40, 0.9 * entropy()).left_plateau is None


def test_rows_known_by_heart_have_left_though_held_out_ones_are_not_known() -> None:
    state = LoopState(history=tuple(line(step, 0.1) for step in range(1, 41)))
    assert after(state, 40, 2 * entropy()).left_plateau == 40


def test_texts_leave_the_loss_of_the_untrained_model() -> None:
    state = after(LoopState(), 0, 8.0, labels=False)
    assert state.untrained_row_losses == (8.0,) * 8
    stays = after(state, 40, 7.5, labels=False)
    assert (stays.waited, stays.left_plateau) == (15, None)
    assert after(stays, 60, 5.0, labels=False).left_plateau == 60


def test_one_answer_for_all_rows_is_no_plateau_to_wait_on() -> None:
    only = [TokenizedRow((1, 5, 0), 1)] * 8
    state = plateau(rows=only).judged(LoopState(step=40), [0.001] * 8)
    assert state.waited == 0


def test_a_run_on_its_plateau_is_lengthened_and_its_rate_stays_up(make_job: MakeJob) -> None:
    planned = open_trainer().train(make_job(workspace="planned", learning_rate=STILL), quiet).report
    assert planned.plateau is not None
    assert (planned.plateau.added, planned.plateau.left) == (0, None)
    seen: list[TrainingProgress] = []
    report = open_trainer().train(make_job(learning_rate=STILL, waiting_epochs=2), seen.append).report
    assert report.plateau is not None
    assert report.plateau.left is None
    assert report.steps == 2 * planned.steps == planned.steps + report.plateau.added
    assert seen[-1].step == seen[-1].steps
    assert seen[-1].added == report.plateau.added
    rates = [each.learning_rate for each in report.history]
    assert min(rates[3 : planned.steps]) > 0.7 * STILL, "it does not fall while the run waits"
    assert rates[-1] < 0.1 * STILL, "it falls at the end"


def test_killed_while_it_waits_it_ends_in_the_same_bytes(make_job: MakeJob) -> None:
    whole = open_trainer().train(make_job(workspace="whole", learning_rate=STILL, waiting_epochs=2), quiet)
    assert whole.report.plateau is not None
    job = make_job(workspace="killed", learning_rate=STILL, waiting_epochs=2)
    train_until_killed(job, whole.report.plateau.waits[1] + 1)
    resumed = open_trainer().train(job, quiet)
    assert sha256(resumed) == sha256(whole)
    assert resumed.report.plateau == whole.report.plateau


@pytest.mark.slow
def test_processes_that_train_together_wait_alike(make_job: MakeJob, tmp_path: Path) -> None:
    alone = open_trainer().train(make_job(workspace="alone", learning_rate=STILL, waiting_epochs=2), quiet).report
    found = in_team(make_job(workspace="team", learning_rate=STILL, waiting_epochs=2), tmp_path)
    together = TrainingReport.model_validate(found)
    assert together.plateau is not None
    assert alone.plateau is not None
    assert (together.steps, together.plateau.waits) == (alone.steps, alone.plateau.waits)
