"""A few timed steps: what they tell, that they leave nothing, and what a training says it grew by."""

from __future__ import annotations

import pytest

from support.training_samples import MakeJob
from tailorbird.training import open_trainer


@pytest.mark.parametrize(
    "method",
    [
        "lora",
    ],
)
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
