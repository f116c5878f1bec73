"""A few timed steps: what they tell, that they leave nothing, and what a training says it grew by."""

from __future__ import annotations

import pytest
import torch

from support.training_samples import MakeJob
from tailorbird.system.threads import ClockReading
from tailorbird.training import open_trainer, timing
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


@pytest.mark.parametrize(
    ("readings", "least", "loaded"),
    [
        ([(2.0, 1.9, 0.0, 2), (1.8, 1.7, 0.1, 2)], 1.8, False),
        ([(4.0, 1.7, 2.0, 2), (1.9, 1.8, 0.0, 2)], 1.9, False),
        ([(9.0, 1.8, 7.0, 2), (8.0, 1.6, 7.0, 2)], 2.0, True),
    ],
    ids=["quiet", "one beside other work", "all beside other work"],
)
def test_beside_other_work_processor_time_over_the_efficiency_counts(
    readings: list[tuple[float, float, float, int]], least: float, loaded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = iter(readings)
    monkeypatch.setattr(timing, "read", lambda *_: ClockReading(*next(left)))
    watch = Stopwatch(torch.device("cpu"), efficiency=0.8)
    assert watch.least(lambda: None) == pytest.approx(least)
    assert watch.loaded is loaded
