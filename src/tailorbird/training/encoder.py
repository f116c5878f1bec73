"""Encoder tuning: a trainable encoder, the loop over rows that keeps the weights with the lowest held-out loss, and the files it leaves.

Few hundred rows are learned by heart soon: the weights with the lowest loss on held-out rows are kept, and the run ends when that loss has
not fallen for two epochs.
"""

from __future__ import annotations

import inspect
import json
import math
import random
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging as transformers_verbosity

from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.base_model import EncoderDescription, Purpose
from tailorbird.domain.errors import InvalidInput, ModelInvalid
from tailorbird.domain.plan import LoraSettings
from tailorbird.domain.run import TrainingProgress, TrainingReport
from tailorbird.ports.trainer import EncoderJob, ReportProgress
from tailorbird.system.files import private_folder
from tailorbird.system.model_load import model_load
from tailorbird.text.encoder_vectors import DENSE_FILE, pooled, prefixed, read_encoder
from tailorbird.training.methods.lora import LoraLinear, write_adapter
from tailorbird.training.optimiser import Optimiser, learning_rate
from tailorbird.training.resource_meter import MemoryMeter

#: transformers leaves these functions untyped.
_logging: Any = transformers_verbosity
#: Cosines are divided by this before the softmax, as encoders of this kind are trained (Wang et al. 2020; sentence-transformers: scale 20).
TEMPERATURE = 0.05


class _RoundedLora(LoraLinear):
    """A ``LoraLinear`` whose products autocast rounds, forward and back."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(…, inputs) to (…, outputs)."""
        y: torch.Tensor = self.linear(x) + self.scaling * nn.functional.linear(nn.functional.linear(x, self.A), self.B)
        return y


class TrainableEncoder:
    """The encoder of a job, as its description says, without dropout; with ``lora`` its weights are frozen and adapters stand beside its
    linear layers. What follows pooling stays as it is.

    Weights are held in fp32; with ``bf16`` they are multiplied in bf16. Of a text ``most`` tokens are read, or what the encoder reads.
    """

    def __init__(self, folder: Path, lora: LoraSettings | None, precision: Literal["bf16", "fp32"] = "fp32", most: int = 512) -> None:
        self._bf16 = precision == "bf16"
        self.described = read_encoder(folder).description
        _logging.disable_progress_bar()
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            with model_load:
                model: Any = AutoModel.from_pretrained(folder, use_safetensors=True, local_files_only=True, trust_remote_code=False)
            self._dense = _dense_layers(folder, self.described)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ModelInvalid(
                f"the encoder in {folder.name} cannot be read ({type(error).__name__})", "pull it again", code="model"
            ) from error
        self.model = model.float().eval()
        #: Nothing reads it here, so that nothing would train it.
        self.model.pooler = None
        self.tokenizer.padding_side = "right"
        self.width = self.described.width
        self._upper: list[nn.Module] = []
        self._taken = inspect.signature(self.model.forward).parameters.keys()
        self._most = min(most, self.described.max_tokens)
        if lora is not None:
            self.adapt(lora)

    def adapt(self, lora: LoraSettings) -> None:
        """Freezes all weights; adapters stand beside the linear layers that ``lora`` names, where the lower are kept in the upper alone."""
        self.model.requires_grad_(False)
        inside = {id(layer) for upper in self._upper or [self.model] for layer in upper.modules()}
        linear = [(path, layer) for path, layer in self.model.named_modules() if isinstance(layer, nn.Linear) and id(layer) in inside]
        for path, layer in linear:
            if any(path.endswith(f".{target}") for target in lora.targets):
                parent, _, name = path.rpartition(".")
                kind = _RoundedLora if self._bf16 else LoraLinear
                setattr(self.model.get_submodule(parent), name, kind(layer, lora.rank, lora.scaling))

    def keep_lower_layers(self) -> None:
        """Leaves the lower half of the layers, and what lies below, as they are. Where no list of layers is found, all weights learn."""
        layers = _layers(self.model)
        self._upper = list(layers)[len(layers) // 2 :]
        if self._upper:
            self.model.requires_grad_(False)
        for layer in self._upper:
            layer.requires_grad_(True)

    @contextmanager
    def dropout(self) -> Iterator[None]:
        """The layers that learn drop as many numbers as their configuration says."""
        for layer in self._upper:
            layer.train()
        try:
            yield
        finally:
            for layer in self._upper:
                layer.eval()

    def parameters(self) -> dict[str, nn.Parameter]:
        """Trained parameters, by name."""
        return {name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad}

    def texts(self, texts: Sequence[str], purpose: Purpose) -> torch.Tensor:
        """The vector of each text, read for ``purpose``: (B, W)."""
        return self.vectors([(text,) for text in prefixed(texts, self.described, purpose)])

    def vectors(self, texts: Sequence[tuple[str, ...]]) -> torch.Tensor:
        """The vector of each text, or pair of texts: (B, W)."""
        parts = [list(part) for part in zip(*texts, strict=True)]
        encoded = self.tokenizer(*parts, padding=True, truncation="longest_first", max_length=self._most, return_tensors="pt")
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self._bf16):
            hidden_BTH = self.model(**{name: tensor for name, tensor in encoded.items() if name in self._taken}).last_hidden_state.float()
        vectors_BW: torch.Tensor = pooled(hidden_BTH, encoded["attention_mask"], self.described, self._dense)
        return vectors_BW

    def adapters(self) -> dict[str, LoraLinear]:
        """Layers with an adapter, by path."""
        return {path: layer for path, layer in self.model.named_modules() if isinstance(layer, LoraLinear)}

    def reached(self, lora: LoraSettings) -> LoraSettings:
        """``lora`` with paths in place of names, where lower layers are kept, which bear the same names."""
        return lora.model_copy(update={"targets": tuple(self.adapters())}) if self._upper else lora

    def merged(self) -> dict[str, torch.Tensor]:
        """The encoder's weights, adapters added to what they stand beside."""
        tensors = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        for path, layer in self.adapters().items():
            a_RI, b_OR = tensors.pop(f"{path}.A"), tensors.pop(f"{path}.B")
            tensors[f"{path}.weight"] = tensors.pop(f"{path}.linear.weight") + layer.scaling * (b_OR @ a_RI)
            if (bias := tensors.pop(f"{path}.linear.bias", None)) is not None:
                tensors[f"{path}.bias"] = bias
        return tensors


def _dense_layers(folder: Path, described: EncoderDescription) -> list[Callable[[torch.Tensor], torch.Tensor]]:
    """The linear layers behind pooling, each with its activation. Raises as ``load_file``, KeyError."""
    tensors = load_file(folder / DENSE_FILE) if described.dense else {}
    return [_dense(tensors, place, getattr(nn, activation)()) for place, activation in enumerate(described.dense)]


def _dense(tensors: dict[str, torch.Tensor], place: int, activation: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    weight_OI, bias_O = tensors[f"{place}.weight"], tensors.get(f"{place}.bias")
    return lambda x_BI: activation(nn.functional.linear(x_BI, weight_OI, bias_O))


def _layers(model: Any) -> nn.ModuleList:
    """The list of as many layers as the configuration names; empty where there is none."""
    count = getattr(model.config, "num_hidden_layers", 0)
    return next((each for each in model.modules() if isinstance(each, nn.ModuleList) and len(each) == count), nn.ModuleList())


Item = TypeVar("Item")
_Asked = TypeVar("_Asked", contravariant=True)


class EncoderLoss(Protocol[_Asked]):
    """A loss of training rows."""

    def of(self, rows: Sequence[_Asked]) -> torch.Tensor:
        """The mean loss, a scalar."""
        ...


#: Batches that rows are sorted across, where those of like length are learned together.
_ALIKE = 8


@dataclass(frozen=True)
class EncoderRows(Generic[Item]):
    """Rows of a tuning: ``train`` are learned in every pass, and of ``others`` so many as ``drawn``, other ones in each pass until all were
    learned; ``held_out`` judge. With ``length`` batches hold rows of like length, so that little is padded. ``whole``: all passes are
    made and the weights that they end with are kept, whatever the loss."""

    train: tuple[Item, ...]
    held_out: tuple[Item, ...]
    others: tuple[Item, ...] = ()
    drawn: int = 0
    length: Callable[[Item], int] | None = None
    whole: bool = False

    @property
    def in_a_pass(self) -> int:
        """How many rows are learned in a pass."""
        return len(self.train) + min(self.drawn, len(self.others))

    def of_pass(self, seed: int, epoch: int) -> list[Item]:
        """The rows of a pass (0-based), shuffled."""
        order = list(self.train)
        if self.others and self.drawn:
            mixed = list(self.others)
            random.Random(f"{seed}/others").shuffle(mixed)
            first, count = epoch * self.drawn, min(self.drawn, len(mixed))
            order += [mixed[place % len(mixed)] for place in range(first, first + count)]
        random.Random(f"{seed}/{epoch}").shuffle(order)
        return order

    def batches(self, seed: int, epoch: int, size: int) -> list[list[Item]]:
        """The rows of a pass, ``size`` at a time."""
        order = self.of_pass(seed, epoch)
        if self.length is None:
            return [order[start : start + size] for start in range(0, len(order), size)]
        blocks = [sorted(order[start : start + _ALIKE * size], key=self.length) for start in range(0, len(order), _ALIKE * size)]
        found = [block[start : start + size] for block in blocks for start in range(0, len(block), size)]
        random.Random(f"{seed}/{epoch}/batches").shuffle(found)
        return found


#: Epochs without a lower held-out loss after which a run ends.
_PATIENCE = 2
_WEIGHTS = "model.safetensors"


@dataclass
class _Run(Generic[Item]):
    """A run under way."""

    job: EncoderJob
    rows: EncoderRows[Item]
    optimiser: Optimiser
    loss: EncoderLoss[Item]
    report: ReportProgress
    steps: int
    memory: MemoryMeter
    started: float = field(default_factory=time.monotonic)
    step: int = 0
    best_step: int = 0
    best: float = math.inf
    history: list[TrainingProgress] = field(default_factory=list)
    kept: dict[str, torch.Tensor] = field(default_factory=dict)


def tuned(
    job: EncoderJob,
    rows: EncoderRows[Item],
    parameters: dict[str, nn.Parameter],
    loss: EncoderLoss[Item],
    report: ReportProgress,
    rates: Mapping[str, float] | None = None,
) -> TrainingReport:
    """Trains ``parameters`` on ``rows``; they end as they were where the loss on those held out was lowest, unless ``rows`` say otherwise.
    ``rates`` are those that learn at a multiple of the learning rate, by name."""
    steps = job.settings.epochs * math.ceil(rows.in_a_pass / job.settings.batch_size)
    optimiser, memory = Optimiser(parameters, job.settings, rates), MemoryMeter(torch.device("cpu"))
    run = _Run(job, rows, optimiser, loss, report, steps, memory)
    _learn(run)
    run.optimiser.set_weights(run.kept)
    return _report(run, sum(parameter.numel() for parameter in parameters.values()))


def _learn(run: _Run[Item]) -> None:
    first = _judge(run, 0.0)
    settings, waited = run.job.settings, 0
    for epoch in range(settings.epochs):
        loss = first
        for batch in run.rows.batches(settings.seed, epoch, settings.batch_size):
            loss = _step(run, batch)
        before = run.best
        _judge(run, loss)
        waited = 0 if run.best < before else waited + 1
        if waited >= _PATIENCE and not run.rows.whole:
            return


def _step(run: _Run[Item], rows: Sequence[Item]) -> float:
    rate = learning_rate(run.job.settings, run.step, run.steps)
    run.memory.begin()
    loss = run.loss.of(rows)
    run.memory.sample()
    torch.autograd.backward(loss)
    run.optimiser.clip()
    run.optimiser.update(rate)
    run.step += 1
    return _finite(float(loss.detach()), run.step)


def _judge(run: _Run[Item], loss: float) -> float:
    """The held-out loss; keeps the weights when it is the lowest so far, or where the last ones are kept."""
    with torch.no_grad():
        size = run.job.settings.batch_size
        rows = run.rows.held_out
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        held_out = math.fsum(float(run.loss.of(part)) * len(part) for part in parts) / len(rows)
    if _finite(held_out, run.step) < run.best or run.rows.whole:
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


def save(job: EncoderJob, encoder: TrainableEncoder, head: nn.Linear | None) -> Path:
    """Writes an adapter, or whole weights where all of them learned or a head reads them."""
    place = (job.results or job.workspace) / "model"
    shutil.rmtree(place, ignore_errors=True)
    private_folder(place)
    if head is None and job.settings.lora is not None:
        write_adapter(encoder.adapters(), encoder.reached(job.settings.lora), place)
        return place
    save_file({name: tensor.contiguous() for name, tensor in encoder.merged().items()}, place / _WEIGHTS, {"format": "pt"})
    for beside in job.base.iterdir():
        if beside.is_file() and beside.name != _WEIGHTS:
            shutil.copyfile(beside, place / beside.name)
    config = json.loads((place / "config.json").read_text(encoding="utf-8")) | {"dtype": "float32"}
    (place / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    if head is not None:
        save_file({name: tensor.detach().contiguous() for name, tensor in head.state_dict().items()}, place / "head.safetensors")
    return place


def _report(run: _Run[Item], trained: int) -> TrainingReport:
    losses = (run.history[0].held_out_loss or 0.0, run.best)
    made = report_of(run.job, run.history, losses, (run.step, run.best_step), trained)
    found = {"seconds": time.monotonic() - run.started, "peak_memory_gb": max(0.0, run.memory.peak)}
    return made.model_copy(update=found | {"stopped_early": run.step if run.step < run.steps else None})


def report_of(
    job: EncoderJob, history: Sequence[TrainingProgress], losses: tuple[float, float], steps: tuple[int, int], trained: int
) -> TrainingReport:
    """The report of a tuning, without time and memory: ``losses`` of rows held out are the first and the best, ``steps`` those that were
    made and that of the best, ``trained`` counts the weights that learned."""
    return TrainingReport(
        settings=digest_of(job.settings),
        snapshot=job.snapshot,
        base_model=job.base_digest,
        steps=steps[0],
        best_step=steps[1],
        best_held_out_loss=losses[1],
        first_held_out_loss=losses[0],
        history=tuple(history),
        trained_parameters=trained,
        tokens=0,
        loss_tokens=0,
        seconds=0.0,
        peak_memory_gb=0.0,
        flops=0.0,
        environment={"torch": torch.__version__, "threads": str(torch.get_num_threads()), "seed": str(job.settings.seed)},
    )
