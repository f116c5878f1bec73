"""An end that is asked for is answered at the next layer, forward and backward, in a step and in an evaluation; and the run stays exact."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig
from transformers.models.llama.modeling_llama import LlamaMLP

from support.random_models import save_llama
from support.training_samples import MakeJob, TrainWhole
from tailorbird.domain.run import TrainingProgress
from tailorbird.ports.trainer import TrainedModel
from tailorbird.training import loop, network, open_trainer
from tailorbird.training import process_group as process_launch
from tailorbird.training.loop import Optimiser, ValidationRows

LAYERS = 8


@pytest.fixture(autouse=True)
def _as_from_a_terminal() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def deep_base(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deep")
    torch.manual_seed(7)
    config = AutoConfig.from_pretrained(tiny_base)
    config.num_hidden_layers = LAYERS
    save_llama(folder, config)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).write_bytes((tiny_base / name).read_bytes())
    return folder


def sha256(trained: TrainedModel) -> str:
    return hashlib.sha256((trained.folder / "adapter_model.safetensors").read_bytes()).hexdigest()


class Layers:
    """Counts the layers that are computed, and has the process interrupted in the one that ``when`` names."""

    def __init__(self) -> None:
        self.count = 0
        self.interrupted_at = 0
        self.when: Callable[[], bool] = lambda: False

    def counted(self, layer: Callable[..., Any]) -> Callable[..., Any]:
        def compute(*inputs: Any) -> Any:
            self.count += 1
            if not self.interrupted_at and self.when():
                self.interrupted_at = self.count
                signal.raise_signal(signal.SIGINT)
            return layer(*inputs)

        return compute


def interrupted_run(layers: Layers, job: Any) -> list[int]:
    steps: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        open_trainer().train(job, lambda line: steps.append(line.step))
    assert layers.count == layers.interrupted_at > 0, "no layer was computed after the one in which the signal came"
    layers.when = lambda: False
    return steps


def go_on(job: Any, whole: TrainedModel) -> list[TrainingProgress]:
    seen: list[TrainingProgress] = []
    resumed = open_trainer().train(job, seen.append)
    assert sha256(resumed) == sha256(whole)
    assert [line.loss for line in resumed.report.history] == [line.loss for line in whole.report.history]
    assert [line.held_out_loss for line in resumed.report.history] == [line.held_out_loss for line in whole.report.history]
    return seen


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_step_ends_at_the_next_layer_and_leaves_no_trace(
    direction: str, make_job: MakeJob, train_whole: TrainWhole, deep_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_whole(make_job(base=deep_base))
    layers, job, passed = Layers(), make_job(workspace="ended", base=deep_base), [0]
    if direction == "forward":
        monkeypatch.setattr(LlamaMLP, "forward", layers.counted(LlamaMLP.forward))
    else:
        monkeypatch.setattr(network, "_pass_by", layers.counted(network._pass_by))
    in_step = loop.Loop._gradients

    def gradients(self: loop.Loop, state: Any) -> Any:
        passed[0], layers.count = state.step + 1, 0
        return in_step(self, state)

    monkeypatch.setattr(loop.Loop, "_gradients", gradients)
    layers.when = lambda: passed[0] == 4 and layers.count == LAYERS // 2
    assert interrupted_run(layers, job)[-1] == 3
    assert sorted((job.workspace / "checkpoints").glob("step-*"))[-1].name == "step-00000003", "what was learned before is kept"
    assert go_on(job, whole)[0].step == 4


def test_an_evaluation_ends_at_the_next_layer_and_is_done_again(
    make_job: MakeJob, train_whole: TrainWhole, deep_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_whole(make_job(base=deep_base))
    layers, job, looks = Layers(), make_job(workspace="ended", base=deep_base), [0]
    monkeypatch.setattr(LlamaMLP, "forward", layers.counted(LlamaMLP.forward))
    losses = ValidationRows.losses

    def look(self: ValidationRows) -> list[float]:
        looks[0], layers.count = looks[0] + 1, 0
        return losses(self)

    monkeypatch.setattr(ValidationRows, "losses", look)
    layers.when = lambda: looks[0] == 2 and layers.count == 2
    told = interrupted_run(layers, job)
    seen = go_on(job, whole)
    assert seen[0].step <= told[-1] + 1
    assert looks[0] == 1 + sum(line.held_out_loss is not None for line in whole.report.history), "one look was taken twice"


def test_an_update_is_not_torn(make_job: MakeJob, train_whole: TrainWhole, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train_whole(make_job())
    job, update, updates = make_job(workspace="ended"), Optimiser.update, iter(range(100))

    def interrupted(self: Optimiser, rate: float) -> None:
        if next(updates) == 2:
            signal.raise_signal(signal.SIGINT)
        update(self, rate)

    with monkeypatch.context() as patch:
        patch.setattr(Optimiser, "update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            open_trainer().train(job, lambda _: None)
    assert sorted((job.workspace / "checkpoints").glob("step-*"))[-1].name < "step-00000003", "the checkpoint before stands"
    go_on(job, whole)


def test_a_team_that_does_not_end_soon_after_an_interruption_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_launch, "_INTERRUPTED", 0.01)
    conversation = process_launch._MemberDialogue([], lambda _: None)
    conversation._ended = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        conversation.held()


#: A process whose every layer takes a fifth of a second: a step of it takes far longer than an answer may.
SLOW = """
import sys, time
import torch
from transformers.models.llama.modeling_llama import LlamaMLP
from tailorbird.ports.trainer import TrainingJob
from tailorbird.training import open_trainer

torch.set_num_threads(1)
quick, slow = LlamaMLP.forward, []

def forward(*inputs):
    if slow:
        print("layer", flush=True)
        time.sleep(0.2)
    return quick(*inputs)

LlamaMLP.forward = forward
try:
    open_trainer().train(TrainingJob.model_validate_json(sys.stdin.read()), lambda line: slow.append(line))
except KeyboardInterrupt:
    print("ended", flush=True)
    sys.exit(130)
"""


def test_a_process_whose_step_takes_long_is_ended_long_before_its_end(make_job: MakeJob, deep_base: Path) -> None:
    job = make_job(workspace="ended", base=deep_base, batch_size=22, token_budget=32)
    child = subprocess.Popen([sys.executable, "-c", SLOW], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin is not None
    assert child.stdout is not None
    with child:
        child.stdin.write(job.model_dump_json())
        child.stdin.close()
        assert child.stdout.readline() == "layer\n"
        child.send_signal(signal.SIGINT)
        sent = time.monotonic()
        said = child.stdout.read().split()
    assert child.returncode == 130
    assert said[-1] == "ended"
    assert said.count("layer") <= 10, "a step has 22 passes of 8 layers"
    assert time.monotonic() - sent < 15
