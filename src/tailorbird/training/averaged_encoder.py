"""Encoder tuning for one label an item: several encoders, each without a part of the rows, whose weights are averaged.

Weights that began alike and learned alike lie in one basin, and their mean answers better than each of them (Wortsman et al. 2022, arXiv
2203.05482). What each says of the part that it has not learned tells how sure the mean may be. An encoder that is finished is kept in the
workspace, so that a run that was killed repeats one at most.

    model.safetensors   the averaged weights, in Hugging Face form with the base's other files; or an adapter in PEFT format, the mean of
                        adapters that began alike
    and what ``text/label_rules.py`` describes
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from tailorbird.domain.errors import Corrupt, InvalidInput
from tailorbird.domain.run import TrainingProgress, TrainingReport
from tailorbird.domain.value import Digest
from tailorbird.ports.trainer import LabelJob, LabelledText, ReportProgress, TrainedModel
from tailorbird.system.files import private_folder
from tailorbird.text.label_rules import LabelPrototypes, write_left_out, write_prototypes
from tailorbird.training.encoder import TEMPERATURE, EncoderRows, TrainableEncoder, report_of, save
from tailorbird.training.label_encoder import PROTOTYPES_RATE, TowardsLabels
from tailorbird.training.optimiser import Optimiser, learning_rate
from tailorbird.training.resource_meter import MemoryMeter
from tailorbird.training.sealed_tensors import read_sealed, write_sealed

#: Names of tensors that are no weights of the encoder.
_PROTOTYPES, _LEFT_OUT, _LOSSES, _SECONDS = "prototypes", "left_out", "losses", "seconds"


@dataclass
class _AveragedTuning:
    """A run under way: ``begun`` are the weights that learn, as they were, ``history`` what was reported here, and ``before`` the seconds
    that encoders took which had been finished."""

    job: LabelJob
    encoder: TrainableEncoder
    report: ReportProgress
    begun: dict[str, torch.Tensor]
    step: int = 0
    before: float = 0.0
    memory: MemoryMeter = field(default_factory=lambda: MemoryMeter(torch.device("cpu")))
    started: float = field(default_factory=time.monotonic)
    history: list[TrainingProgress] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """What the encoders took so far, those of an earlier run included."""
        return self.before + time.monotonic() - self.started

    @property
    def parts(self) -> list[int]:
        """The parts that are left out, one after the other."""
        return sorted({part for part in self.job.parts if part >= 0})

    def learned(self, part: int) -> tuple[LabelledText, ...]:
        """The rows that are not of ``part``."""
        return tuple(row for row, own in zip(self.job.train, self.job.parts, strict=True) if own != part)

    def steps(self, part: int) -> int:
        """Steps of the encoder that lacks ``part``."""
        return self.job.settings.epochs * math.ceil(len(self.learned(part)) / self.job.settings.batch_size)


def tune_averaged(job: LabelJob, report: ReportProgress, origin: Digest) -> TrainedModel:
    """As ``Trainer.tune`` for labels of which a row bears one; ``origin`` names all that the bytes depend on."""
    if len(job.parts) != len(job.train) or len(set(job.parts) - {-1}) < 2:
        raise InvalidInput("the rows are not divided into parts", "divide them into two parts or more", code="no_held_out_rows")
    encoder = TrainableEncoder(job.base, None, job.settings.precision, job.settings.max_length)
    encoder.keep_lower_layers()
    if job.settings.lora is not None:
        torch.manual_seed(job.settings.seed)  # all adapters begin alike, so that their mean is one of the same rank
        encoder.adapt(job.settings.lora)
    run = _AveragedTuning(job, encoder, report, {name: weight.detach().clone() for name, weight in encoder.parameters().items()})
    kept = _KeptEncoders(job, origin)
    mean, left_out_NK, losses = dict[str, torch.Tensor](), torch.full((len(job.train), len(job.labels)), math.nan), []
    for part in run.parts:
        found = kept.read(part)
        if found is None:
            began = time.monotonic()
            found = _tuned_without(run, part)
            kept.write(part, found | {_SECONDS: torch.tensor(time.monotonic() - began, dtype=torch.float64)})
        else:
            run.step += run.steps(part)
            run.before += float(found.pop(_SECONDS))
        left_out_NK[torch.tensor(job.parts) == part] = found.pop(_LEFT_OUT)
        losses.append(found.pop(_LOSSES))
        for name, weight in found.items():
            mean[name] = mean.get(name, 0.0) + weight / len(run.parts)
    prototypes_KH = nn.functional.normalize(mean.pop(_PROTOTYPES), dim=-1)
    _put(encoder, mean)
    folder = save(job, encoder, None)
    write_prototypes(LabelPrototypes((prototypes_KH / TEMPERATURE).double().numpy(), np.zeros(len(job.labels))), folder)
    write_left_out(left_out_NK.numpy(), folder)
    return TrainedModel(folder=folder, report=_report(run, torch.stack(losses).mean(0).tolist(), sum(w.numel() for w in mean.values())))


@torch.no_grad()
def _put(encoder: TrainableEncoder, weights: dict[str, torch.Tensor]) -> None:
    for name, parameter in encoder.parameters().items():
        parameter.copy_(weights[name])


def _tuned_without(run: _AveragedTuning, part: int) -> dict[str, torch.Tensor]:
    """Weights, prototypes of length 1, and what they say of the rows of ``part``; ``losses`` are those of these rows before and after."""
    job, settings, rows = run.job, run.job.settings, run.learned(part)
    left = [row for row, own in zip(job.train, job.parts, strict=True) if own == part]
    torch.manual_seed(1000 * settings.seed + part)
    _put(run.encoder, run.begun)
    loss = TowardsLabels(run.encoder, job, EncoderRows(rows, ()))
    first = _loss_of(loss, left)[1]
    rates = dict.fromkeys(loss.parameters(), PROTOTYPES_RATE)
    optimiser, steps = Optimiser(run.encoder.parameters() | loss.parameters(), settings, rates), run.steps(part)
    for step, batch in enumerate(_batches(run, rows, part)):
        rate = learning_rate(settings, step, steps)
        run.memory.begin()
        with run.encoder.dropout():
            value = loss.of(batch)
        run.memory.sample()
        torch.autograd.backward(value)
        optimiser.clip()
        optimiser.update(rate)
        run.step += 1
        if not math.isfinite(told := float(value.detach())):
            raise InvalidInput(
                f"the loss is no longer a finite number at step {run.step}", "lower the learning rate", code="loss_not_finite"
            )
        if (step + 1) % max(1, steps // settings.epochs) == 0:
            _tell(run, told, rate)
    scores_LK, last = _loss_of(loss, left)
    weights = {name: weight.detach().clone() for name, weight in run.encoder.parameters().items()}
    prototypes_KH = nn.functional.normalize(loss.prototypes_KH.detach(), dim=-1)
    return weights | {_PROTOTYPES: prototypes_KH, _LEFT_OUT: scores_LK, _LOSSES: torch.tensor([first, last])}


def _batches(run: _AveragedTuning, rows: tuple[LabelledText, ...], part: int) -> Iterator[list[LabelledText]]:
    size = run.job.settings.batch_size
    for epoch in range(run.job.settings.epochs):
        order = list(rows)
        random.Random(f"{run.job.settings.seed}/{part}/{epoch}").shuffle(order)
        yield from (order[start : start + size] for start in range(0, len(order), size))


@torch.no_grad()
def _loss_of(loss: TowardsLabels, rows: list[LabelledText]) -> tuple[torch.Tensor, float]:
    """Log-probabilities of ``rows`` (B, K), in nats, in their order, and the mean loss."""
    nats_BK = torch.log_softmax(loss.scores(rows), dim=-1)
    return nats_BK, -float((nats_BK * loss.wanted(rows)).sum(1).mean())


def _tell(run: _AveragedTuning, loss: float, rate: float) -> None:
    line = TrainingProgress(
        step=run.step,
        steps=sum(map(run.steps, run.parts)),
        loss=loss,
        held_out_loss=None,
        learning_rate=rate,
        tokens=0,
        tokens_per_second=0.0,
        memory_gb=run.memory.now(),
        seconds=run.seconds,
    )
    run.history.append(line)
    run.report(line)


class _KeptEncoders:
    """Finished encoders of ``origin`` in the job's workspace, encrypted where it has a key. One that cannot be read is made anew."""

    def __init__(self, job: LabelJob, origin: Digest) -> None:
        self._folder, self._key = job.workspace / "encoders", bytes.fromhex(job.seal_key)
        self._name = origin.removeprefix("sha256:")[:16]

    def read(self, part: int) -> dict[str, torch.Tensor] | None:
        """The tensors of the encoder without ``part``; None where it is not finished."""
        path = self._path(part)
        try:
            return read_sealed(path, self._key, path.name) if self._key else load_file(path)
        except (OSError, ValueError, SafetensorError, Corrupt):
            return None

    def write(self, part: int, tensors: dict[str, torch.Tensor]) -> None:
        """Keeps ``tensors``; the file is whole or not there."""
        path = self._path(part)
        private_folder(path.parent)
        new = path.with_suffix(".new")
        whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
        if self._key:
            write_sealed(new, whole, self._key, path.name)
        else:
            save_file(whole, new)
        new.replace(path)

    def _path(self, part: int) -> Path:
        return self._folder / f"{self._name}-{part}.safetensors"


def _report(run: _AveragedTuning, losses: list[float], trained: int) -> TrainingReport:
    made = report_of(run.job, run.history, (losses[0], losses[1]), (run.step, run.step), trained)
    return made.model_copy(update={"seconds": run.seconds, "peak_memory_gb": max(0.0, run.memory.peak)})
