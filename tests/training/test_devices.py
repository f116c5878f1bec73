"""Training on a GPU: the same losses as on a processor, in every method, on a simulated GPU here and on a real one by ``make gpu``."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from support.machines import MACHINES, gpu_of, without_gpu
from support.model_families import write_family
from support.training_families import job_of
from tailorbird.ports.trainer import TrainedModel, TrainingJob
from tailorbird.training import open_trainer
from tailorbird.training.devices import gpu_names, memory_bytes, pick_device

#: PEFT asks transformers by an old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

#: Packed behind a shared prompt, windows, capped logits, sinks and experts, states that run: what computes rows in a way of its own.
FAMILIES = [
    "qwen3",
    "mistral",
    "gpt_oss",
    "falcon_h1",
]


def trained(job: TrainingJob) -> TrainedModel:
    return open_trainer().train(job, lambda _: None)


def here(job: TrainingJob) -> TrainedModel:
    """The same job on the processor."""
    with without_gpu():
        return trained(job.model_copy(update={"workspace": job.workspace.with_name("here")}))


def weights(model: TrainedModel) -> dict[str, torch.Tensor]:
    return {name: tensor for path in model.folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("family", "method"), [*((family, "lora") for family in FAMILIES), ("qwen3", "full"), ("gemma2", "full"), ("qwen3", "qlora")]
)
def test_losses_and_weights_are_those_of_the_processor(machine: str, family: str, method: str, tmp_path: Path) -> None:
    job = job_of(write_family(tmp_path / "base", family), tmp_path / "work", method)
    expected = here(job)
    with gpu_of(machine):
        found = trained(job)
        name = gpu_names()[0]
    assert found.report.environment["device"] == name
    near = 2e-2 if method == "qlora" else 2e-4
    assert [line.loss for line in found.report.history] == pytest.approx([line.loss for line in expected.report.history], rel=near)
    assert weights(found).keys() == weights(expected).keys()
    for name, tensor in weights(found).items():
        assert tensor.device.type == "cpu"
        assert float((tensor - weights(expected)[name]).abs().max()) < 50 * near, name


@pytest.mark.parametrize("machine", MACHINES)
def test_the_machine_is_measured_the_job_timed_and_examined(machine: str, tmp_path: Path) -> None:
    job = job_of(write_family(tmp_path / "base", "qwen3"), tmp_path / "work")
    with gpu_of(machine):
        measured = open_trainer().measure_machine()
        assert measured.gpus == gpu_names()
        assert measured.memory_gb == pytest.approx(memory_bytes(pick_device()) / 2**30, rel=0.01)
        assert measured.fast_bf16 is torch.cuda.is_bf16_supported(including_emulation=False)
        timed = open_trainer().calibrate(job, "digest")
        assert timed.passes[-1].seconds > 0
        assert timed.passes[-1].peak_gb >= timed.held_gb > 0
        examined = open_trainer().examine(job)
    assert not [found.code for found in examined.findings if found.severity == "blocking"]
