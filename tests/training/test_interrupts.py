"""An end that is asked for is answered at the next layer, what was learned is saved, and the next run ends in the same bytes."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from transformers.models.llama.modeling_llama import LlamaMLP

from support.training_samples import MakeJob, TrainWhole
from tailorbird.domain.run import TrainingProgress
from tailorbird.training import loop, network, open_trainer
from training.test_checkpoints import sha256


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_step_ends_at_the_next_layer_and_leaves_no_trace(
    direction: str, make_job: MakeJob, train_whole: TrainWhole, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, job = train_whole(make_job()), make_job(workspace="ended")
    owner, name = (LlamaMLP, "forward") if direction == "forward" else (network, "_pass_by")
    layer, gradients = getattr(owner, name), loop.Loop._gradients
    step, computed = 0, 0

    def interrupted(*inputs: Any) -> Any:
        nonlocal computed
        computed += 1
        if (step, computed) == (4, 1):
            signal.raise_signal(signal.SIGINT)
        return layer(*inputs)

    def counted(self: loop.Loop, state: Any) -> Any:
        nonlocal step, computed
        step, computed = state.step + 1, 0
        return gradients(self, state)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, interrupted)
        patch.setattr(loop.Loop, "_gradients", counted)
        with pytest.raises(KeyboardInterrupt):
            open_trainer().train(job, lambda _: None)
    assert (step, computed) == (4, 1), "no layer was computed after the one in which the signal came"
    seen: list[TrainingProgress] = []
    resumed = open_trainer().train(job, seen.append)
    assert seen[0].step == 4, "what was learned before is kept"
    assert sha256(resumed) == sha256(whole)
    losses = [[(line.loss, line.held_out_loss) for line in each.report.history] for each in (resumed, whole)]
    assert losses[0] == losses[1]
