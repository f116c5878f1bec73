"""From a ranking job to a tuned encoder.

Few hundred questions are learned by heart soon: the weights with the lowest loss on held-out questions are kept, and the run ends when
that loss has not fallen for two epochs.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.dataset import EVERYONE
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.run import TrainingProgress, TrainingReport
from tailorbird.ports.trainer import JudgedQuery, RankingJob, ReportProgress, TrainedModel
from tailorbird.system.files import private_folder
from tailorbird.text.search_index import SearchIndex
from tailorbird.training.methods.lora.adapter_files import write_adapter
from tailorbird.training.optimiser import Optimiser
from tailorbird.training.ranking.ranking_losses import DEPTH, AgainstCandidates, RankingLoss, TowardsDocuments
from tailorbird.training.ranking.trainable_encoder import TrainableEncoder
from tailorbird.training.resource_meter import MemoryMeter
from tailorbird.training.schedule import learning_rate

#: Epochs without a lower held-out loss after which a run ends.
_PATIENCE = 2
_COMPANIONS = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")


@dataclass
class _Run:
    """A run under way."""

    job: RankingJob
    optimiser: Optimiser
    loss: RankingLoss
    report: ReportProgress
    steps: int
    memory: MemoryMeter
    started: float = field(default_factory=time.monotonic)
    step: int = 0
    best_step: int = 0
    best: float = math.inf
    history: list[TrainingProgress] = field(default_factory=list)
    kept: dict[str, torch.Tensor] = field(default_factory=dict)


def tune(job: RankingJob, report: ReportProgress) -> TrainedModel:
    """As ``Trainer.tune``."""
    if not job.train or not job.held_out:
        raise InvalidInput("there are no judged queries to learn from", "give queries with relevant documents", code="no_judged_queries")
    torch.manual_seed(job.settings.seed)
    encoder, head = TrainableEncoder(job.base, job.settings.lora), None
    index = SearchIndex(job.index)
    parameters = encoder.parameters()
    if job.kind == "cross-encoder":
        head = nn.Linear(encoder.width, 1)
        parameters |= {f"head.{name}": parameter for name, parameter in head.named_parameters()}
        loss: RankingLoss = AgainstCandidates(encoder, index, head, _first_found(index, [*job.train, *job.held_out]))
    else:
        loss = TowardsDocuments(encoder, index)
    steps = job.settings.epochs * math.ceil(len(job.train) / job.settings.batch_size)
    run = _Run(job, Optimiser(parameters, job.settings), loss, report, steps, MemoryMeter(torch.device("cpu")))
    _learn(run)
    run.optimiser.set_weights(run.kept)
    folder = _save(job, encoder, head)
    return TrainedModel(folder=folder, report=_report(run, sum(parameter.numel() for parameter in parameters.values())))


def _first_found(index: SearchIndex, queries: Sequence[JudgedQuery]) -> dict[str, tuple[str, ...]]:
    """What words find first for each question: hard candidates."""
    groups = frozenset(group for entry in index.entries for group in entry.access) | {EVERYONE}
    return {query.text: tuple(one.entry.id for one in index.find(query.text, (), groups, DEPTH)) for query in queries}


def _learn(run: _Run) -> None:
    first = _judge(run, 0.0)
    settings, waited = run.job.settings, 0
    for epoch in range(settings.epochs):
        order = list(run.job.train)
        random.Random(f"{settings.seed}/{epoch}").shuffle(order)
        loss = first
        for start in range(0, len(order), settings.batch_size):
            loss = _step(run, order[start : start + settings.batch_size])
        before = run.best
        _judge(run, loss)
        waited = 0 if run.best < before else waited + 1
        if waited >= _PATIENCE:
            return


def _step(run: _Run, queries: Sequence[JudgedQuery]) -> float:
    rate = learning_rate(run.job.settings, run.step, run.steps)
    run.memory.begin()
    loss = run.loss.of(queries)
    run.memory.sample()
    torch.autograd.backward(loss)
    run.optimiser.clip()
    run.optimiser.update(rate)
    run.step += 1
    return _finite(float(loss.detach()), run.step)


def _judge(run: _Run, loss: float) -> float:
    """The held-out loss; keeps the weights when it is the lowest so far."""
    with torch.no_grad():
        size = run.job.settings.batch_size
        parts = [run.job.held_out[start : start + size] for start in range(0, len(run.job.held_out), size)]
        held_out = math.fsum(float(run.loss.of(part)) * len(part) for part in parts) / len(run.job.held_out)
    if _finite(held_out, run.step) < run.best:
        run.best, run.best_step = held_out, run.step
        run.kept = {name: weight.clone() for name, weight in run.optimiser.weights().items()}
    line = TrainingProgress(
        step=run.step,
        steps=run.steps,
        loss=loss or held_out,
        held_out_loss=held_out,
        learning_rate=learning_rate(run.job.settings, max(0, run.step - 1), run.steps),
        tokens=0,
        tokens_per_second=0.0,
        memory_gb=run.memory.now(),
        seconds=time.monotonic() - run.started,
    )
    run.history.append(line)
    run.report(line)
    return held_out


def _finite(loss: float, step: int) -> float:
    if not math.isfinite(loss):
        raise InvalidInput(f"the loss is no longer a finite number at step {step}", "lower the learning rate", code="loss_not_finite")
    return loss


def _save(job: RankingJob, encoder: TrainableEncoder, head: nn.Linear | None) -> Path:
    """An adapter where the index's encoder stays; whole weights where all of them learned, or where a head reads them."""
    place = job.workspace / "model"
    shutil.rmtree(place, ignore_errors=True)
    private_folder(place)
    if head is None and job.settings.lora is not None:
        write_adapter(encoder.adapters(), job.settings.lora, place)
        return place
    save_file({name: tensor.contiguous() for name, tensor in encoder.merged().items()}, place / "model.safetensors", {"format": "pt"})
    for name in _COMPANIONS:
        if (job.base / name).is_file():
            shutil.copyfile(job.base / name, place / name)
    config = json.loads((place / "config.json").read_text(encoding="utf-8")) | {"dtype": "float32"}
    (place / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    if head is not None:
        save_file({name: tensor.detach().contiguous() for name, tensor in head.state_dict().items()}, place / "head.safetensors")
    return place


def _report(run: _Run, trained: int) -> TrainingReport:
    job = run.job
    return TrainingReport(
        settings=digest_of(job.settings),
        snapshot=job.snapshot,
        base_model=job.base_digest,
        steps=run.step,
        best_step=run.best_step,
        best_held_out_loss=run.best,
        first_held_out_loss=run.history[0].held_out_loss or 0.0,
        history=tuple(run.history),
        trained_parameters=trained,
        tokens=0,
        loss_tokens=0,
        seconds=time.monotonic() - run.started,
        peak_memory_gb=max(0.0, run.memory.peak),
        flops=0.0,
        environment={"torch": torch.__version__, "threads": str(torch.get_num_threads()), "seed": str(job.settings.seed)},
        stopped_early=run.step if run.step < run.steps else None,
    )
