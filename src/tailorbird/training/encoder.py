"""Encoder tuning: a trainable encoder, the loop over rows that keeps the weights with the lowest held-out loss, and the files it leaves.

Few hundred rows are learned by heart soon: the weights with the lowest loss on held-out rows are kept, and the run ends when that loss has
not fallen for two epochs.

Encoder tuning for labels: each text moves towards a vector that stands for its label, and away from those of the others.

Every step compares its texts with all labels at once (a softmax over cosines with learned prototypes, as in Wang et al. 2018, arXiv
1801.05599; Movshovitz-Attias et al. 2017, arXiv 1703.07464), so that no pairs need to be drawn and a batch may be small. Prototypes begin
as the means of their texts, and are kept beside the encoder. Where a text bears one label those of several encoders are averaged and are
the head (``averaged_encoder.py``); where it may bear several they judge beside words.

Encoder tuning for one label an item: several encoders, each without a part of the rows, whose weights are averaged.

Weights that began alike and learned alike lie in one basin, and their mean answers better than each of them (Wortsman et al. 2022, arXiv
2203.05482). What each says of the part that it has not learned tells how sure the mean may be. An encoder that is finished is kept in the
workspace, so that a run that was killed repeats one at most.

    model.safetensors   the averaged weights, in Hugging Face form with the base's other files; or an adapter in PEFT format, the mean of
                        adapters that began alike
    and what ``text/label_rules.py`` describes

Losses of encoders that are tuned for ``kind: rank``: bi- and cross-encoders over judged queries.
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
from typing import Any, Generic, Literal, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging as transformers_verbosity

from tailorbird.base_models.encoder_vectors import pooled, prefixed, read_encoder
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.base_model import Purpose
from tailorbird.domain.dataset import EVERYONE
from tailorbird.domain.errors import Corrupt, InvalidInput, ModelInvalid
from tailorbird.domain.plan import LoraSettings
from tailorbird.domain.run import TrainingProgress, TrainingReport
from tailorbird.domain.value import Digest
from tailorbird.ports.trainer import EncoderJob, JudgedQuery, LabelJob, LabelledText, RankingJob, ReportProgress, TrainedModel
from tailorbird.system.files import private_folder
from tailorbird.system.process import model_load
from tailorbird.text.label_rules import LabelPrototypes, write_left_out, write_prototypes
from tailorbird.text.search_index import SearchIndex
from tailorbird.training.checkpoints import read_sealed, write_sealed
from tailorbird.training.loop import MemoryMeter, Optimiser, learning_rate
from tailorbird.training.methods import LoraLinear, write_adapter

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
    linear layers.

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
        # The list of as many layers as the configuration names; empty where there is none.
        model = self.model
        count = getattr(model.config, "num_hidden_layers", 0)
        layers = next((each for each in model.modules() if isinstance(each, nn.ModuleList) and len(each) == count), nn.ModuleList())
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
        vectors_BW: torch.Tensor = pooled(hidden_BTH, encoded["attention_mask"], self.described.pooling)
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


Item = TypeVar("Item")
#: The mean loss of training rows, a scalar.
EncoderLoss = Callable[[Sequence[Item]], torch.Tensor]

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
class Tuning:
    """A tuning under way, of ``steps`` steps; ``before`` are the seconds of what an earlier run had finished."""

    job: EncoderJob
    report: ReportProgress
    steps: int
    before: float = 0.0
    step: int = 0
    memory: MemoryMeter = field(default_factory=lambda: MemoryMeter(torch.device("cpu")))
    started: float = field(default_factory=time.monotonic)
    history: list[TrainingProgress] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """What it took so far."""
        return self.before + time.monotonic() - self.started

    def learn(self, optimiser: Optimiser, loss: EncoderLoss[Item], rows: Sequence[Item], rate: float) -> float:
        """Takes a step, and gives the loss of ``rows`` before it."""
        self.memory.begin()
        value = loss(rows)
        self.memory.sample()
        torch.autograd.backward(value)
        optimiser.clip()
        optimiser.update(rate)
        self.step += 1
        return self.finite(float(value.detach()))

    def finite(self, loss: float) -> float:
        """``loss``. Raises InvalidInput."""
        if not math.isfinite(loss):
            message = f"the loss is no longer a finite number at step {self.step}"
            raise InvalidInput(message, "lower the learning rate")
        return loss

    def tell(self, loss: float, held_out: float | None, rate: float) -> None:
        """Reports the last step."""
        line = TrainingProgress(
            step=self.step,
            steps=self.steps,
            loss=loss,
            held_out_loss=held_out,
            learning_rate=rate,
            tokens=0,
            tokens_per_second=0.0,
            memory_gb=self.memory.now(),
            seconds=self.seconds,
        )
        self.history.append(line)
        self.report(line)

    def reported(self, losses: tuple[float, float], best_step: int, trained: int) -> TrainingReport:
        """The report: ``losses`` of rows held out are the first and the best, ``trained`` counts the weights that learned."""
        return TrainingReport(
            settings=digest_of(self.job.settings),
            snapshot=self.job.snapshot,
            base_model=self.job.base_digest,
            steps=self.step,
            best_step=best_step,
            best_held_out_loss=losses[1],
            first_held_out_loss=losses[0],
            history=tuple(self.history),
            trained_parameters=trained,
            tokens=0,
            loss_tokens=0,
            seconds=self.seconds,
            peak_memory_gb=max(0.0, self.memory.peak),
            flops=0.0,
            environment={"torch": torch.__version__, "threads": str(torch.get_num_threads()), "seed": str(self.job.settings.seed)},
            stopped_early=self.step if self.step < self.steps else None,
        )


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
    settings, size = job.settings, job.settings.batch_size
    run = Tuning(job, report, settings.epochs * math.ceil(rows.in_a_pass / size))
    optimiser = Optimiser(parameters, settings, rates)
    first = best = _held_out_loss(run, loss, rows.held_out)
    kept, best_step, waited = _copied(optimiser), 0, 0
    run.tell(first, first, learning_rate(settings, 0, run.steps))
    for epoch in range(settings.epochs):
        learned = first
        for batch in rows.batches(settings.seed, epoch, size):
            learned = run.learn(optimiser, loss, batch, learning_rate(settings, run.step, run.steps))
        held_out = _held_out_loss(run, loss, rows.held_out)
        waited = 0 if held_out < best else waited + 1
        if held_out < best or rows.whole:
            best, best_step, kept = held_out, run.step, _copied(optimiser)
        run.tell(learned or held_out, held_out, learning_rate(settings, run.step - 1, run.steps))
        if waited >= _PATIENCE and not rows.whole:
            break
    optimiser.set_weights(kept)
    return run.reported((first, best), best_step, sum(parameter.numel() for parameter in parameters.values()))


def _copied(optimiser: Optimiser) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in optimiser.weights().items()}


@torch.no_grad()
def _held_out_loss(run: Tuning, loss: EncoderLoss[Item], rows: Sequence[Item]) -> float:
    size = run.job.settings.batch_size
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    return run.finite(math.fsum(float(loss(part)) * len(part) for part in parts) / len(rows))


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


#: How many times faster prototypes learn than the encoder, whose weights are tens of times larger.
PROTOTYPES_RATE = 10.0
#: Texts that are read at once, of like length: padding costs as much as words.
_TOGETHER = 8
#: Where a text may bear several labels: texts without one that are learned in a pass for each with one.
WITHOUT = 1


class TowardsLabels:
    """-log softmax(v · P / 0.05) at the label of each text; where a text may bear several, the mean over labels of the binary cross-entropy
    of v · P / 0.05 + b. ``prototypes_KH`` and ``biases_K`` learn beside the encoder."""

    def __init__(self, encoder: TrainableEncoder, job: LabelJob, rows: EncoderRows[LabelledText]) -> None:
        self._encoder, self._alone = encoder, job.alone
        self._together = job.settings.batch_size if rows.length is not None else _TOGETHER
        self._places = {label: place for place, label in enumerate(job.labels)}
        # Rows without a label, of which each pass learns others, stand for no prototype.
        train = rows.train if rows.length is None else tuple(sorted(rows.train, key=rows.length))
        borne_NK = self.wanted(train)
        with torch.no_grad():
            vectors_NH = torch.cat([self._vectors(train[start : start + 64]) for start in range(0, len(train), 64)])
            sums_KH = borne_NK.T @ vectors_NH
            # A label that no row bears begins anywhere: a vector of length 0 has no direction to learn.
            sums_KH[borne_NK.sum(0) == 0] = torch.randn(sums_KH.shape[1])
            share_K = ((borne_NK.sum(0) + 1) / rows.in_a_pass).clamp(max=0.9)
        self.prototypes_KH = nn.Parameter(nn.functional.normalize(sums_KH, dim=-1))
        self.biases_K = nn.Parameter(torch.log(share_K / (1 - share_K)) - 0.5 / TEMPERATURE)

    def parameters(self) -> dict[str, nn.Parameter]:
        """What learns beside the encoder, by name."""
        return {"prototypes": self.prototypes_KH} | ({"biases": self.biases_K} if self._alone else {})

    def kept(self) -> LabelPrototypes:
        """What gives a text's log-odds."""
        with torch.no_grad():
            weights_KH = nn.functional.normalize(self.prototypes_KH, dim=-1) / TEMPERATURE
            return LabelPrototypes(weights_KH.double().numpy(), self.biases_K.double().numpy())

    def of(self, rows: Sequence[LabelledText]) -> torch.Tensor:
        """The mean loss of rows."""
        rows = sorted(rows, key=lambda row: len(row.text))
        scores_BK, wanted_BK = self.scores(rows), self.wanted(rows)
        if self._alone:
            return nn.functional.binary_cross_entropy_with_logits(scores_BK + self.biases_K, wanted_BK)
        return nn.functional.cross_entropy(scores_BK, wanted_BK)

    def scores(self, rows: Sequence[LabelledText]) -> torch.Tensor:
        """Cosines with the prototypes by the temperature (B, K), in the order of ``rows``."""
        return self._vectors(rows) @ nn.functional.normalize(self.prototypes_KH, dim=-1).T / TEMPERATURE

    def _vectors(self, rows: Sequence[LabelledText]) -> torch.Tensor:
        """Vectors of length 1 (N, H), in the order of ``rows``, of which neighbours should be of like length."""
        parts = [rows[start : start + self._together] for start in range(0, len(rows), self._together)]
        return nn.functional.normalize(torch.cat([self._encoder.texts([row.text for row in part], "text") for part in parts]), dim=-1)

    def wanted(self, rows: Sequence[LabelledText]) -> torch.Tensor:
        """(N, K): 1 where a text bears a label."""
        wanted_NK = torch.zeros(len(rows), len(self._places))
        for row, text in enumerate(rows):
            wanted_NK[row, [self._places[label] for label in text.labels]] = 1.0
        return wanted_NK


def tune_labels(job: LabelJob, report: ReportProgress) -> TrainedModel:
    """As ``Trainer.tune`` for labels."""
    if not job.train:
        raise InvalidInput("there are no training rows", "give at least one row of the train split", code="no_train_rows")
    if not job.held_out:
        raise InvalidInput("no row is held out", "hold out a few rows, to choose the best weights by", code="no_train_rows")
    torch.manual_seed(job.settings.seed)
    encoder = TrainableEncoder(job.base, job.settings.lora, job.settings.precision, job.settings.max_length)
    rows = rows_of(job)
    loss = TowardsLabels(encoder, job, rows)
    beside = loss.parameters()
    rates = dict.fromkeys(beside, PROTOTYPES_RATE)
    told = tuned(job, rows, encoder.parameters() | beside, loss.of, report, rates)
    learned = told.trained_parameters - sum(parameter.numel() for parameter in beside.values())
    folder = save(job, encoder, None)
    if job.alone:
        write_prototypes(loss.kept(), folder)
    return TrainedModel(folder=folder, report=told.model_copy(update={"trained_parameters": learned}))


def rows_of(job: LabelJob) -> EncoderRows[LabelledText]:
    """The rows of the job. Where most bear none of several labels, they would take most of the time and teach the same thing: so many are
    learned in a pass as ``WITHOUT`` says, others each time."""
    bearing = tuple(row for row in job.train if row.labels)
    if not job.alone or not bearing:
        return EncoderRows(job.train, job.held_out)
    others = tuple(row for row in job.train if not row.labels)
    return EncoderRows(bearing, job.held_out, others, WITHOUT * len(bearing), lambda row: len(row.text), whole=True)


#: Names of tensors that are no weights of the encoder.
_PROTOTYPES, _LEFT_OUT, _LOSSES, _SECONDS = "prototypes", "left_out", "losses", "seconds"


def _without(job: LabelJob, part: int) -> tuple[LabelledText, ...]:
    """The rows that are not of ``part``."""
    return tuple(row for row, own in zip(job.train, job.parts, strict=True) if own != part)


def _steps(job: LabelJob, part: int) -> int:
    """Steps of the encoder that lacks ``part``."""
    return job.settings.epochs * math.ceil(len(_without(job, part)) / job.settings.batch_size)


def tune_averaged(job: LabelJob, report: ReportProgress, origin: Digest) -> TrainedModel:
    """As ``Trainer.tune`` for labels of which a row bears one; ``origin`` names all that the bytes depend on."""
    if len(job.parts) != len(job.train) or len(set(job.parts) - {-1}) < 2:
        raise InvalidInput("the rows are not divided into parts", "divide them into two parts or more", code="no_train_rows")
    encoder = TrainableEncoder(job.base, None, job.settings.precision, job.settings.max_length)
    encoder.keep_lower_layers()
    if job.settings.lora is not None:
        torch.manual_seed(job.settings.seed)  # all adapters begin alike, so that their mean is one of the same rank
        encoder.adapt(job.settings.lora)
    begun = {name: weight.detach().clone() for name, weight in encoder.parameters().items()}
    parts = sorted({part for part in job.parts if part >= 0})
    run, key = Tuning(job, report, sum(_steps(job, part) for part in parts)), bytes.fromhex(job.seal_key)
    mean, left_out_NK, losses = dict[str, torch.Tensor](), torch.full((len(job.train), len(job.labels)), math.nan), []
    for part in parts:
        path = job.workspace / "encoders" / f"{origin.removeprefix('sha256:')[:16]}-{part}.safetensors"
        found = _read_kept(path, key)
        if found is None:
            began = time.monotonic()
            _put(encoder, begun)
            found = _tuned_without(run, job, encoder, part)
            _keep(path, key, found | {_SECONDS: torch.tensor(time.monotonic() - began, dtype=torch.float64)})
        else:
            run.step += _steps(job, part)
            run.before += float(found.pop(_SECONDS))
        left_out_NK[torch.tensor(job.parts) == part] = found.pop(_LEFT_OUT)
        losses.append(found.pop(_LOSSES))
        for name, weight in found.items():
            mean[name] = mean.get(name, 0.0) + weight / len(parts)
    prototypes_KH = nn.functional.normalize(mean.pop(_PROTOTYPES), dim=-1)
    _put(encoder, mean)
    folder = save(job, encoder, None)
    first, last = torch.stack(losses).mean(0).tolist()
    write_prototypes(LabelPrototypes((prototypes_KH / TEMPERATURE).double().numpy(), np.zeros(len(job.labels))), folder)
    write_left_out(left_out_NK.numpy(), folder)
    return TrainedModel(folder=folder, report=run.reported((first, last), run.step, sum(weight.numel() for weight in mean.values())))


@torch.no_grad()
def _put(encoder: TrainableEncoder, weights: dict[str, torch.Tensor]) -> None:
    for name, parameter in encoder.parameters().items():
        parameter.copy_(weights[name])


def _tuned_without(run: Tuning, job: LabelJob, encoder: TrainableEncoder, part: int) -> dict[str, torch.Tensor]:
    """Weights, prototypes of length 1, and what they say of the rows of ``part``; ``losses`` are those of these rows before and after."""
    settings, rows = job.settings, _without(job, part)
    left = [row for row, own in zip(job.train, job.parts, strict=True) if own == part]
    torch.manual_seed(1000 * settings.seed + part)
    loss = TowardsLabels(encoder, job, EncoderRows(rows, ()))
    first = _loss_of(loss, left)[1]
    rates = dict.fromkeys(loss.parameters(), PROTOTYPES_RATE)
    optimiser, steps = Optimiser(encoder.parameters() | loss.parameters(), settings, rates), _steps(job, part)
    for step, batch in enumerate(_batches(job, rows, part)):
        rate = learning_rate(settings, step, steps)
        with encoder.dropout():
            learned = run.learn(optimiser, loss.of, batch, rate)
        if (step + 1) % max(1, steps // settings.epochs) == 0:
            run.tell(learned, None, rate)
    scores_LK, last = _loss_of(loss, left)
    weights = {name: weight.detach().clone() for name, weight in encoder.parameters().items()}
    prototypes_KH = nn.functional.normalize(loss.prototypes_KH.detach(), dim=-1)
    return weights | {_PROTOTYPES: prototypes_KH, _LEFT_OUT: scores_LK, _LOSSES: torch.tensor([first, last])}


def _batches(job: LabelJob, rows: tuple[LabelledText, ...], part: int) -> Iterator[list[LabelledText]]:
    size = job.settings.batch_size
    for epoch in range(job.settings.epochs):
        order = list(rows)
        random.Random(f"{job.settings.seed}/{part}/{epoch}").shuffle(order)
        yield from (order[start : start + size] for start in range(0, len(order), size))


@torch.no_grad()
def _loss_of(loss: TowardsLabels, rows: list[LabelledText]) -> tuple[torch.Tensor, float]:
    """Log-probabilities of ``rows`` (B, K), in nats, in their order, and the mean loss."""
    nats_BK = torch.log_softmax(loss.scores(rows), dim=-1)
    return nats_BK, -float((nats_BK * loss.wanted(rows)).sum(1).mean())


def _read_kept(path: Path, key: bytes) -> dict[str, torch.Tensor] | None:
    """A finished encoder, encrypted where there is a ``key``; None where it cannot be read, and is made anew."""
    try:
        return read_sealed(path, key, path.name) if key else load_file(path)
    except (OSError, ValueError, SafetensorError, Corrupt):
        return None


def _keep(path: Path, key: bytes, tensors: dict[str, torch.Tensor]) -> None:
    """Keeps ``tensors``; the file is whole or not there."""
    private_folder(path.parent)
    new = path.with_suffix(".new")
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    if key:
        write_sealed(new, whole, key, path.name)
    else:
        save_file(whole, new)
    new.replace(path)


#: Documents that a question is compared with at once by a cross-encoder, the relevant ones among them, and how deep they are drawn from.
CANDIDATES, DEPTH = 12, 50


def _towards_documents(encoder: TrainableEncoder, index: SearchIndex) -> EncoderLoss[JudgedQuery]:
    """-Σ p log softmax(q · D / 0.05) over all documents of the index, p in proportion to the grades: only the side of the questions
    learns, so the index stays as it is and need not be made anew."""
    assert index.vectors is not None
    documents_DH = torch.from_numpy(np.asarray(index.vectors, dtype=np.float32))
    # What compares products has longer vectors than the temperature is made for.
    documents_DH = documents_DH / (1.0 if encoder.described.normalised else float(documents_DH.norm(dim=-1).mean()))
    places = {entry.id: place for place, entry in enumerate(index.entries)}

    def loss(queries: Sequence[JudgedQuery]) -> torch.Tensor:
        q_BH = torch.nn.functional.normalize(encoder.texts([query.text for query in queries], "query"), dim=-1)
        log_p_BD = torch.log_softmax(q_BH @ documents_DH.T / TEMPERATURE, dim=-1)
        wanted_BD = torch.zeros(len(queries), len(documents_DH))
        for row, query in enumerate(queries):
            for document, grade in query.relevant.items():
                if document in places:
                    wanted_BD[row, places[document]] = max(0.0, grade)
        wanted_BD = wanted_BD / wanted_BD.sum(1, keepdim=True).clamp(min=1e-9)
        return -(wanted_BD * log_p_BD).sum(1).mean()

    return loss


def _against_candidates(
    encoder: TrainableEncoder, index: SearchIndex, head: nn.Linear, queries: Sequence[JudgedQuery]
) -> EncoderLoss[JudgedQuery]:
    """-Σ p log softmax(score) over one relevant document and those that words find first without being relevant (listwise,
    Cao et al. 2007). ``head`` turns the vector of a pair into its score; ``queries`` are all that are learned or held out."""
    texts = {entry.id: f"{entry.title} {entry.text}".strip() for entry in index.entries}
    groups = frozenset(group for entry in index.entries for group in entry.access) | {EVERYONE}
    found = {query.text: [one.entry.id for one in index.find(query.text, (), groups, DEPTH)] for query in queries}

    def loss(queries: Sequence[JudgedQuery]) -> torch.Tensor:
        losses = []
        for query in queries:
            # The relevant document of the highest grade stands first.
            relevant = [name for name in sorted(query.relevant, key=lambda name: (-query.relevant[name], name)) if name in texts]
            others = [name for name in found[query.text] if name not in query.relevant]
            # Neighbours in the first ranking differ little: every fourth is drawn, so that the list reaches deep.
            candidates = relevant[:1] + others[:: max(1, len(others) // CANDIDATES)][: CANDIDATES - 1]
            if len(candidates) > 1:
                scores_K = head(encoder.vectors([(query.text, texts[one]) for one in candidates])).squeeze(1)
                losses.append(-torch.log_softmax(scores_K, dim=0)[0])
        return torch.stack(losses).mean() if losses else torch.zeros((), requires_grad=True)

    return loss


def tune_ranking(job: RankingJob, report: ReportProgress) -> TrainedModel:
    """As ``Trainer.tune`` for judged queries."""
    if not job.train or not job.held_out:
        raise InvalidInput("there are no judged queries to learn from", "give queries with relevant documents", code="no_train_rows")
    torch.manual_seed(job.settings.seed)
    encoder, head = TrainableEncoder(job.base, job.settings.lora, most=job.settings.max_length), None
    index = SearchIndex(job.index)
    parameters = encoder.parameters()
    if job.kind == "cross-encoder":
        head = nn.Linear(encoder.width, 1)
        parameters |= {f"head.{name}": parameter for name, parameter in head.named_parameters()}
        loss = _against_candidates(encoder, index, head, [*job.train, *job.held_out])
    else:
        loss = _towards_documents(encoder, index)
    told = tuned(job, EncoderRows(job.train, job.held_out), parameters, loss, report)
    return TrainedModel(folder=save(job, encoder, head), report=told)
