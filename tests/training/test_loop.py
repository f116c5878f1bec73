"""Memory that is short, held-out losses that rise, metrics: what the loop watches while it learns."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
import torch

from support.training_samples import MakeJob, settings
from tailorbird.domain.run import TrainingProgress
from tailorbird.ports.trainer import TrainedModel
from tailorbird.training import loop, open_trainer, resource_meter
from tailorbird.training import network as network_module
from tailorbird.training.batches import pack
from tailorbird.training.checkpoints import LoopState
from tailorbird.training.methods import Learner, method_named, methods
from tailorbird.training.network import Network, read_model
from tailorbird.training.process_group import ProcessGroup
from tailorbird.training.resource_meter import MemoryMeter, MemoryWatch, predicted_gib_per_token
from tailorbird.training.tokenization import TokenizedRow
from tailorbird.training.validation import ValidationRows

CPU = torch.device("cpu")


def sha256(trained: TrainedModel) -> str:
    return hashlib.sha256((trained.folder / "adapter_model.safetensors").read_bytes()).hexdigest()


class Room:
    """Free memory that a test decides on, in tokens; it shrinks after a step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, shrinks_at: int, to: int) -> None:
        self.tokens, self.shrinks_at, self.to = 10_000, shrinks_at, to
        monkeypatch.setattr(MemoryWatch, "fits", lambda _, tokens: tokens <= self.tokens)

    def hear(self, line: TrainingProgress) -> None:
        if line.step == self.shrinks_at:
            self.tokens = self.to


def test_where_memory_is_short_passes_are_halved_and_learn_the_same(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = open_trainer().train(make_job(workspace="wide"), lambda _: None).report
    room = Room(monkeypatch, shrinks_at=2, to=60)
    tight = open_trainer().train(make_job(workspace="tight"), room.hear).report
    assert wide.halved_at == ()
    assert tight.halved_at
    assert set(tight.halved_at) == {2}
    assert not tight.recomputed
    assert [line.loss for line in tight.history] == pytest.approx([line.loss for line in wide.history], rel=1e-4)
    assert tight.tokens == wide.tokens


def test_a_run_that_was_halved_resumes_to_the_same_bytes(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = open_trainer().train(make_job(workspace="whole"), Room(monkeypatch, shrinks_at=2, to=60).hear)
    job, room = make_job(workspace="stopped"), Room(monkeypatch, shrinks_at=2, to=60)

    def stop(line: TrainingProgress) -> None:
        room.hear(line)
        if line.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_trainer().train(job, stop)
    # The memory is there again, but what was decided stands.
    Room(monkeypatch, shrinks_at=0, to=10_000)
    resumed = open_trainer().train(job, lambda _: None)
    assert resumed.report.halved_at == whole.report.halved_at
    assert sha256(resumed) == sha256(whole)


def test_where_single_rows_do_not_fit_activations_are_computed_again(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = open_trainer().train(make_job(workspace="wide"), lambda _: None).report
    tight = open_trainer().train(make_job(workspace="tight"), Room(monkeypatch, shrinks_at=1, to=0).hear).report
    assert tight.recomputed
    assert [line.loss for line in tight.history] == pytest.approx([line.loss for line in wide.history], rel=1e-4)


def counting(counts: list[int]) -> Callable[[torch.Tensor], torch.Tensor]:
    """Counts what is kept for the backward pass in the last of ``counts``."""

    def keep(kept: torch.Tensor) -> torch.Tensor:
        counts[-1] += 1
        return kept

    return keep


@pytest.mark.parametrize("method", sorted(methods()))
@pytest.mark.parametrize("written_out", [True, False], ids=["written-out", "transformers"])
def test_computing_activations_again_changes_no_bit(
    written_out: bool, method: str, tiny_base: Path, rows: list[TokenizedRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also as a GPU computes, by transformers' own forward pass."""
    monkeypatch.setattr(network_module, "is_written_out", lambda model: written_out)
    torch.manual_seed(3)
    chosen = method_named(method)
    learner = Learner(read_model(tiny_base, torch.float32, CPU), settings(method), tiny_base)
    parameters = chosen.prepare(learner)
    network = Network(learner.model, "fp32")
    assert network.can_recompute
    found, counts = [], list[int]()
    for network.recompute in (False, True):
        counts.append(0)
        with torch.autograd.graph.saved_tensors_hooks(counting(counts), lambda kept: kept):
            loss = network.loss_sum(pack(rows, torch.float32, CPU))
        found.append(torch.autograd.grad(loss, list(parameters.values())))
    assert counts[1] < counts[0], "less is kept"
    assert all(torch.equal(kept, again) for kept, again in zip(*found, strict=True))


def test_the_watch_predicts_then_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource_meter, "free_gib", lambda _: 1.0)
    meter = MemoryMeter(CPU)
    watch = MemoryWatch(CPU, 0.001, meter)
    assert watch.fits(800)
    assert not watch.fits(2000)
    held = torch.ones(32, 1024, 1024)
    meter.sample()
    watch.passed(100)
    assert watch.fits(100), "what was computed once fits"
    assert not watch.fits(2000), f"a pass of 100 tokens held {held.nbytes} bytes"
    watch.passed(50)
    assert watch.fits(100)


def test_memory_of_a_pass_is_predicted_by_the_formula(tiny_base: Path) -> None:
    model = read_model(tiny_base, torch.float32, CPU)
    assert predicted_gib_per_token(model, torch.float32) * 2**30 == pytest.approx(4 * 2 * (20 * 32 + 48))


@pytest.mark.parametrize(
    ("now", "risen"),
    [
        ([1.5, 1.6, 1.4, 1.5, 1.7, 1.5, 1.4, 1.5], True),
        ([1.5, 0.6, 1.4, 0.5, 1.7, 0.5, 1.4, 0.6], False),
        ([0.9] * 8, False),
        ([1.0] * 8, False),
    ],
)
def test_a_rise_counts_beyond_its_interval(now: list[float], risen: bool, tiny_base: Path, rows: list[TokenizedRow]) -> None:
    held_out = ValidationRows(Network(read_model(tiny_base, torch.float32, CPU), "fp32"), rows[:8], 1000, ProcessGroup())
    assert held_out.has_risen(now, [1.0] * 8) is risen
    assert held_out.has_risen(now[:7], [1.0] * 7) is False, "too few rows"


def test_losses_by_row_are_those_of_each_row_alone(tiny_base: Path, rows: list[TokenizedRow]) -> None:
    network = Network(read_model(tiny_base, torch.float32, CPU), "fp32")
    held_out = ValidationRows(network, rows, 120, ProcessGroup())
    assert held_out.losses() == pytest.approx([network.plain_loss_sum(row) for row in rows], rel=1e-5)


def test_two_rises_in_a_row_end_a_run() -> None:
    state = LoopState(step=3).judged(1.0, (1.0,), False)
    once = state.model_copy(update={"step": 4}).judged(2.0, (2.0,), True)
    assert (once.stopped_early, once.best_step) == (None, 3)
    assert once.judged(1.5, (1.5,), False).rises == 0
    assert once.model_copy(update={"step": 5}).judged(2.0, (2.0,), True).stopped_early == 5


def test_a_run_whose_held_out_loss_rises_stops_and_keeps_the_best(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = count()

    def rising(self: ValidationRows) -> list[float]:
        return [abs(next(measured) // 8 - 1) + 0.01 * row for row in range(8)]

    monkeypatch.setattr(ValidationRows, "losses", rising)
    job, seen = make_job(epochs=4), []
    report = open_trainer().train(job, lambda _: None).report
    evaluated = [line.step for line in report.history if line.held_out_loss is not None]
    assert report.best_step == evaluated[1]
    assert report.stopped_early == report.steps == evaluated[6], "rises count in the second half of the run"
    open_trainer().train(job, seen.append)
    assert seen == [], "a run that was stopped is not taken up again"


def test_metrics_are_lines_of_the_history(make_job: MakeJob) -> None:
    job = make_job()

    def stop(line: TrainingProgress) -> None:
        if line.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_trainer().train(job, stop)
    report = open_trainer().train(job, lambda _: None).report
    lines = (job.workspace / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert tuple(TrainingProgress.model_validate_json(line) for line in lines) == report.history


def test_memory_is_returned_where_the_process_has_grown_and_not_after_each_step(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a return gives back the next step takes again: returned after each step, pages were faulted in anew at each step."""
    held, steps, returns = [0.5], count(1), list[float]()
    gradients = loop.Loop._gradients

    def takes(running: loop.Loop, state: LoopState) -> tuple[float, LoopState]:
        held[0] = 1.0 if next(steps) < 4 else 1.3
        return gradients(running, state)

    def gives_back() -> None:
        returns.append(held[0])
        held[0] = 0.5

    monkeypatch.setattr(loop.Loop, "_gradients", takes)
    monkeypatch.setattr(loop, "resident_gib", lambda: held[0])
    monkeypatch.setattr(loop, "return_freed_memory", gives_back)
    assert len(open_trainer().train(make_job(), lambda _: None).report.history) >= 6
    assert returns == [1.3]
