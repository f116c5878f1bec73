"""A few timed steps: what they tell, that they leave nothing, and what a training says it grew by."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch

from support.training_samples import MakeJob
from tailorbird.training import open_trainer
from tailorbird.training.batches import Packed
from tailorbird.training.network import Network
from tailorbird.training.timing import Stopwatch


@pytest.mark.parametrize("method", ["lora", "full"])
def test_steps_are_timed_on_a_small_and_on_the_longest_pass(make_job: MakeJob, method: str) -> None:
    job = make_job(method, batch_size=8, token_budget=4096)
    found = open_trainer().calibrate(job, "here")
    small, large = found.passes
    assert 0 < small.tokens < large.tokens
    assert 0 < small.answers < large.answers
    assert 0 < small.pairs < large.pairs
    assert min(one.seconds for one in found.passes) > 0
    assert min(one.forward_seconds for one in found.passes) > 0
    assert large.peak_gb >= found.held_gb * 0.9 > 0
    assert (found.machine, found.base_model, found.settings) == ("here", job.base_digest, job.settings)
    assert found.trained_parameters > 0
    assert found.update_seconds > 0
    assert found.write_mb_s > 0
    assert list(job.workspace.iterdir()) == []


def test_what_the_first_update_takes_beyond_another_is_told_apart(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a stopwatch on which reading the model takes three seconds, the first update five and everything else one."""
    seconds = itertools.chain([3.0, 5.0], itertools.repeat(1.0))

    def once(_: Stopwatch, work: Callable[[], object]) -> float:
        work()
        return next(seconds)

    monkeypatch.setattr(Stopwatch, "once", once)
    found = open_trainer().calibrate(make_job("full"), "here")
    assert (found.read_seconds, found.update_seconds, found.moments_seconds) == (3.0, 1.0, 4.0)


def test_steps_are_timed_with_the_threads_of_the_job(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, loss_sum = set(), Network.loss_sum

    def noted(self: Network, packed: Packed) -> torch.Tensor:
        seen.add(torch.get_num_threads())
        return loss_sum(self, packed)

    monkeypatch.setattr(Network, "loss_sum", noted)
    open_trainer().calibrate(make_job(threads=3), "here")
    open_trainer().train(make_job(threads=3, epochs=1), lambda _: None)
    assert seen == {3}
    assert torch.get_num_threads() == 1, "and left as they were"


def test_one_row_is_timed_as_it_is(make_job: MakeJob) -> None:
    job = make_job(batch_size=1)
    assert len(open_trainer().calibrate(job, "here").passes) == 1


def test_a_training_says_what_the_process_grew_by(make_job: MakeJob) -> None:
    report = open_trainer().train(make_job(epochs=1), lambda _: None).report
    assert 0 <= report.grown_memory_gb < 4
