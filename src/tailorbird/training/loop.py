"""AdamW over named parameters, with a state of plain tensors, and the learning-rate schedule.

FLOPs and peak memory of a training.

Validation losses of a training, tests of their rise, and the plateau before a run begins to learn.

A model first learns which answers there are and how often each is given; its loss then stands at the entropy of that distribution until it
finds what in a text tells the answers apart. When it does so depends on the seed. A schedule that falls regardless may have spent its rate
before: of equal runs some then learn all, and some nothing. So the schedule stops at a quarter of its steps while the run stands on the
plateau, and goes on when it has left it, or when the steps that may be added are used up.

Training loop of every method: steps, evaluations, checkpoints.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tailorbird.decoders import blocks, experts_met, text_config
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.plan import TrainingSettings
from tailorbird.domain.run import TrainingPlateau, TrainingProgress
from tailorbird.ports.trainer import ReportProgress
from tailorbird.system.machine import PeakMemory, resident_gib, return_freed_memory
from tailorbird.training.batches import Batches, Packed, RowLayout, TokenizedRow, divide
from tailorbird.training.checkpoints import Checkpoints, LoopState
from tailorbird.training.devices import DevicePeak, is_gpu, used_gib
from tailorbird.training.network import Network
from tailorbird.training.process_group import ProcessGroup


def learning_rate(settings: TrainingSettings, step: int, steps: int) -> float:
    """The rate at ``step`` (0-based).

    Linear warm-up over a share of ``steps``, then a half cosine to zero at the end (Loshchilov & Hutter 2017).
    """
    warmup = warmup_steps(settings, steps)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def warmup_steps(settings: TrainingSettings, steps: int) -> int:
    """Steps in which the rate rises."""
    return math.ceil(settings.warmup * steps)


_RANDOM = "random_state"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class Optimiser:
    """AdamW (Loshchilov & Hutter 2019) with decay on matrices alone, gradients clipped to a norm.

    ``rates`` are the parameters that learn at a multiple of the learning rate, by name.
    """

    def __init__(
        self,
        parameters: dict[str, torch.nn.Parameter],
        settings: TrainingSettings,
        rates: Mapping[str, float] | None = None,
        team: ProcessGroup | None = None,
    ) -> None:
        self._parameters = parameters
        self._team = team or ProcessGroup()
        self._clip_norm = settings.clip_norm
        groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
        for name, parameter in parameters.items():
            decay = settings.weight_decay if parameter.ndim >= 2 else 0.0
            groups.setdefault((decay, (rates or {}).get(name, 1.0)), []).append(parameter)
        described = [{"params": group, "weight_decay": decay, "rate": rate} for (decay, rate), group in groups.items()]
        self._adam = torch.optim.AdamW(described, lr=settings.learning_rate, fused=True)

    def sum_gradients(self) -> None:
        """Sums gradients over the processes that train together."""
        self._team.sum_gradients(self._parameters.values())

    def clip(self) -> float:
        """Has the next update scale all gradients down to the norm that settings allow (0: leaves them); returns the norm they have. The
        update divides as it reads them: a pass of its own over all gradients cost a tenth of the optimiser's time."""
        norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in self._parameters.values() if parameter.grad is not None])
        limit = self._clip_norm if self._clip_norm > 0 else float("inf")
        self._adam.grad_scale = ((norm + 1e-6) / limit).clamp(min=1.0).float()  # type: ignore[attr-defined]
        return float(norm)

    def update(self, learning_rate: float) -> None:
        """One step, after which gradients are gone."""
        for group in self._adam.param_groups:
            group["lr"] = learning_rate * group["rate"]
        self._adam.step()
        self.forget_gradients()

    def forget_gradients(self) -> None:
        """Drops gradients of a step that is not finished."""
        self._adam.zero_grad(set_to_none=True)

    def retire(self) -> None:
        """Drops gradients and moments: nothing more will be learned."""
        self.forget_gradients()
        self._adam.state.clear()

    def weights(self) -> dict[str, torch.Tensor]:
        """The parameters as they stand, not copied: they change with the next update."""
        return {name: parameter.detach() for name, parameter in self._parameters.items()}

    @torch.no_grad()
    def set_weights(self, weights: dict[str, torch.Tensor]) -> None:
        """Replaces the parameters by ``weights``."""
        for name, parameter in self._parameters.items():
            parameter.copy_(weights[name])

    def tensors(self) -> dict[str, torch.Tensor]:
        """Weights, moments and torch's random state: all that the rest of the run depends on."""
        kept = {f"weight.{name}": value for name, value in self.weights().items()}
        for name, parameter in self._parameters.items():
            kept |= {f"{moment}.{name}": value for moment, value in self._adam.state[parameter].items()}
        return kept | {_RANDOM: torch.get_rng_state()}

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Goes back to what ``tensors`` gave."""
        self.set_weights({name: tensors[f"weight.{name}"] for name in self._parameters})
        for name, parameter in self._parameters.items():
            if f"step.{name}" in tensors:
                step, *moments = (tensors[f"{moment}.{name}"] for moment in _MOMENTS)
                placed = [step.to(parameter.device), *(moment.to(parameter.device) for moment in moments)]
                self._adam.state[parameter] = dict(zip(_MOMENTS, placed, strict=True))
        torch.set_rng_state(tensors[_RANDOM])


class Flops:
    """FLOPs of a forward and backward pass over packed rows.

    A frozen matrix costs 4 a token and element (forward, gradient of the input), a trained one 6; the head counts at loss tokens alone;
    attention costs 12 a (query, key) pair, layer and query width (Korthikanti et al. 2022; shared/causal pairs counted once). Norms and
    embeddings are left out.
    """

    def __init__(self, model: Any) -> None:
        head = model.get_output_embeddings()
        outside = {id(head.weight), id(model.get_input_embeddings().weight)}
        matrices = [p for p in model.get_decoder().parameters() if p.ndim in (2, 3) and id(p) not in outside]
        met = experts_met(model)
        self._per_token = sum(_numbers(p) * (6 if p.requires_grad else 4) * (met if p.ndim == 3 else 1) for p in matrices)
        self._per_loss_token = head.weight.numel() * (6 if head.weight.requires_grad else 4)
        config = text_config(model)
        heads = getattr(config, "num_attention_heads", None) or 0
        width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads) if heads else 0
        self._per_pair = 12 * width * len(blocks(model))

    def of(self, packed: Packed) -> float:
        """FLOPs of one forward and backward pass."""
        return float(packed.tokens * self._per_token + packed.loss_tokens * self._per_loss_token + packed.pairs * self._per_pair)


def _numbers(matrix: Any) -> int:
    """Numbers that a matrix stands for: one in 4 bits is stored as half as many bytes."""
    state = getattr(matrix, "quant_state", None)
    return math.prod(matrix.shape if state is None else state.shape)


class MemoryMeter:
    """Peak memory above what was in use before: the resident set, or the allocator's peak on CUDA. In GiB."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._highest = DevicePeak(device) if is_gpu(device) else None
        #: The least that was in use when the meter was made, and before any pass.
        self.start = self.now()
        self._peak = 0.0

    def now(self) -> float:
        """Memory in use."""
        return used_gib(self._device)

    def begin(self) -> None:
        """To be called before a pass: what earlier work of this process held may be given back as late as that."""
        self.start = min(self.start, self.now())

    def sample(self) -> None:
        """Looks: to be called where much is held, between a forward and its backward pass."""
        self._peak = max(self._peak, self._highest.gib if self._highest is not None else self.now())

    @property
    def peak(self) -> float:
        """The highest sample above the start."""
        return max(0.0, self._peak - self.start)


#: Half the width of a 95 % interval, in standard errors.
_DEVIATES = 1.96
#: Fewer rows say nothing certain.
_FEWEST = 8


class ValidationRows:
    """Rows on which a run is measured, in passes of at most ``token_budget`` tokens; each process of a group measures its share."""

    def __init__(self, network: Network, rows: Sequence[TokenizedRow], token_budget: int) -> None:
        self._network = network
        self._places = list(network.team.share(range(len(rows))))
        if network.layout is not RowLayout.TREE:
            self._places.sort(key=lambda place: len(rows[place].ids))
        self._parts = divide([rows[place] for place in self._places], token_budget, network.layout)
        self.tokens = [row.learned for row in rows]

    @torch.no_grad()
    def losses(self) -> list[float]:
        """The summed loss of each row's answer, in nats, in the rows' order."""
        found: list[float] = []
        for part in self._parts:
            packed = self._network.pack(part)
            sums = torch.zeros(len(part), dtype=torch.float64)
            found += sums.index_add_(0, packed.owners_A.cpu(), self._network.answer_losses(packed).double().cpu()).tolist()
        whole = torch.zeros(len(self.tokens), dtype=torch.float64)
        whole[self._places] = torch.tensor(found, dtype=torch.float64)
        losses: list[float] = self._network.team.sum(whole.to(self._network.device)).tolist()
        return losses

    def mean(self, losses: Sequence[float]) -> float:
        """Nats per answer token."""
        return math.fsum(losses) / sum(self.tokens)

    def has_risen(self, losses: Sequence[float], best: Sequence[float]) -> bool:
        """True when ``losses`` lie above ``best`` for certain; fewer than eight rows say nothing certain."""
        return len(losses) >= _FEWEST and is_lower(best, losses)


def is_lower(losses: Sequence[float], others: Sequence[float]) -> bool:
    """Whether ``losses`` lie below ``others`` beyond the 95 % interval of the mean difference, rows paired; of fewer than eight rows,
    whether their mean does.

    The standard error is that of a ratio of sums over independent rows, whose denominator (tokens) is fixed.
    """
    falls = [then - now for now, then in zip(losses, others, strict=True)]
    count = len(falls)
    mean = math.fsum(falls) / count
    if count < _FEWEST:
        return mean > 0
    variance = math.fsum((fall - mean) ** 2 for fall in falls) / (count - 1)
    return mean > _DEVIATES * math.sqrt(variance / count)


#: Share of the planned steps after which the schedule waits: with a warm-up of a tenth the rate is then 93 % of its height.
WAITS_AT = 0.25
#: A loss this share below that of the plateau has left it.
FALL = 0.2
#: Labels are left, too, when the learned rows of the last pass have at most this share of the plateau's loss.
KNOWN = 0.5


class Plateau:
    """The plateau of a run. Where answers are labels it is what knowing their frequencies in train costs on the held-out rows (nats); where
    they are texts, the loss of the untrained model."""

    def __init__(self, course: TrainingCourse, batches: Batches) -> None:
        settings, train = course.settings, course.train
        self._per_pass = batches.steps_per_epoch
        self._most_added = settings.waiting_epochs * self._per_pass
        self._waits_at = max(warmup_steps(settings, batches.steps), math.ceil(WAITS_AT * batches.steps))
        # -log of the frequency in train of each held-out answer, in nats; one that train lacks counts as seen once.
        seen = Counter(row.ids[row.prompt :] for row in train)
        prior = tuple(-math.log(max(1, seen[row.ids[row.prompt :]]) / len(train)) for row in course.held_out)
        self._references = prior if course.labels else None
        self._tokens_of_an_answer = sum(row.learned for row in train) / len(train)

    def judged(self, state: LoopState, losses: Sequence[float]) -> LoopState:
        """``state``, just evaluated, with its schedule put off where the held-out ``losses`` (by row, nats) are still the plateau's."""
        if state.step == 0:
            return state if self._references else state.model_copy(update={"untrained_row_losses": tuple(losses)})
        if state.left_plateau is not None:
            return state
        if self._has_left(state, losses):
            return state.model_copy(update={"left_plateau": state.step})
        added = min(state.step - state.waited - self._waits_at, self._most_added - state.waited)
        if added <= 0:
            return state
        return state.model_copy(update={"waited": state.waited + added, "waits": (*state.waits, state.step)})

    def told(self, state: LoopState) -> TrainingPlateau | None:
        """Plateau for the report; None where the run left it without waiting."""
        if state.left_plateau is not None and not state.waits:
            return None
        references = self._references or state.untrained_row_losses
        return TrainingPlateau(
            loss=math.fsum(references) / len(references),
            held_out=math.fsum(state.best_row_losses) / len(state.best_row_losses),
            waits=state.waits,
            added=state.waited,
            left=state.left_plateau,
        )

    def _has_left(self, state: LoopState, losses: Sequence[float]) -> bool:
        references = self._references or state.untrained_row_losses
        # One answer for all rows: nothing lies below, and nothing is waited for.
        if not any(references):
            return True
        if is_lower(losses, references) and math.fsum(losses) <= (1 - FALL) * math.fsum(references):
            return True
        if self._references is None:
            return False
        lines = [line.loss for line in state.history if line.step][-self._per_pass :]
        learned = self._tokens_of_an_answer * math.fsum(lines) / max(1, len(lines))
        return bool(lines) and learned <= KNOWN * math.fsum(references) / len(references)


#: Seconds between checkpoints; a checkpoint that takes long is made more rarely, so that at most this share of the time goes into them.
_CHECKPOINT_SECONDS = 30.0
_CHECKPOINT_SHARE = 0.05
#: Passes of ever other lengths leave free memory between what is held, which the allocator keeps: it is returned to the system when steps
#: have taken this many times what they had taken after the step that followed the last return. (Every page that is returned is faulted in
#: again: a return after each step cost 7 % of a training's pace.)
_KEPT_MEMORY = 1.1


@dataclass(frozen=True)
class TrainingCourse:
    """Training rows and validation rows; ``labels``: the answers are labels, of which there are few."""

    train: Sequence[TokenizedRow]
    held_out: Sequence[TokenizedRow]
    settings: TrainingSettings
    labels: bool = False


class Loop:
    """A run that can be stopped at any moment and goes on to the same weights."""

    def __init__(
        self, network: Network, optimiser: Optimiser, course: TrainingCourse, checkpoints: Checkpoints, report: ReportProgress
    ) -> None:
        self._network = network
        self._optimiser = optimiser
        self._course = course
        self._checkpoints = checkpoints
        self._report = report
        self._team = network.team
        self._batches = Batches(course.train, course.settings, network.layout)
        self.plateau = Plateau(course, self._batches)
        self._flops = Flops(network.model)
        self._memory, self._process = MemoryMeter(network.device), PeakMemory()
        self._held_out = ValidationRows(network, course.held_out, course.settings.token_budget)
        self._state, self._history = LoopState(), list[TrainingProgress]()
        #: True where weights and numbers are of one step, and no checkpoint is being written.
        self._whole = True
        self._lap = self._saved_at = time.monotonic()
        self._saving = self._held = 0.0
        #: GiB that the process holds before the first step.
        self._loaded = resident_gib()

    def run(self) -> LoopState:
        """Trains to the end, from a checkpoint where there is one. The best weights lie with the checkpoints.

        Raises InvalidInput and Conflict (``checkpoint_foreign``). An interruption drops the
        gradients of the step it falls into, saves what was learned before, and is passed on.
        """
        found = self._checkpoints.newest()
        if found is not None:
            self._state, self._history = found.state, list(found.state.history)
            self._optimiser.restore(found.tensors)
        try:
            if self._state.best_held_out_loss is None:
                loss = self._judge()
                self._note(
                    TrainingProgress(
                        step=0,
                        steps=self._batches.steps,
                        loss=loss,
                        held_out_loss=loss,
                        learning_rate=0.0,
                        tokens=0,
                        tokens_per_second=0.0,
                        memory_gb=self._memory.now(),
                        seconds=0.0,
                    )
                )
                self._save()
            while self._state.step < self._steps and self._state.stopped_early is None:
                line = self._step()
                evaluated = self._batches.evaluates(self._state.step) or self._state.step == self._steps
                held_out = self._judge() if evaluated else None
                self._note(line.model_copy(update={"held_out_loss": held_out, "steps": self._steps, "added": self._state.waited}))
                if evaluated or time.monotonic() - self._saved_at > max(_CHECKPOINT_SECONDS, self._saving / _CHECKPOINT_SHARE):
                    self._save()
        except KeyboardInterrupt:
            self._optimiser.forget_gradients()
            # In the middle of an update, an evaluation or a checkpoint nothing is kept: the last checkpoint stands.
            if self._whole and self._history:
                self._save()
            raise
        self._optimiser.retire()
        return self._noted()

    @property
    def _steps(self) -> int:
        """Steps of the whole run, as far as is known: those planned, and those that it waited."""
        return self._batches.steps + self._state.waited

    def _noted(self) -> LoopState:
        """The state with the history so far: it is copied for a look and a checkpoint, not for each step."""
        return self._state.model_copy(update={"history": tuple(self._history)})

    def _step(self) -> TrainingProgress:
        started, before = time.monotonic(), self._state
        rate = learning_rate(self._course.settings, before.step - before.waited, self._batches.steps)
        loss, spent = self._gradients(before)
        # Until here an interruption leaves the weights as they were.
        self._whole = False
        self._optimiser.update(rate)
        line = TrainingProgress(
            step=before.step + 1,
            steps=self._steps,
            loss=loss,
            held_out_loss=None,
            learning_rate=rate,
            tokens=spent.tokens,
            tokens_per_second=(spent.tokens - before.tokens) / (time.monotonic() - started),
            memory_gb=self._memory.now(),
            seconds=0.0,
        )
        self._state = spent.model_copy(update={"step": line.step})
        # Between two steps, where the process has grown since the step after the last return.
        held = 0.0 if is_gpu(self._network.device) else resident_gib() - self._loaded
        if not self._held:
            self._held = held
        elif held > _KEPT_MEMORY * self._held:
            return_freed_memory()
            self._held = 0.0
        return line

    def _gradients(self, state: LoopState) -> tuple[float, LoopState]:
        """Clipped gradients of the mean loss over the loss tokens of a whole optimiser batch: that loss, and the counts with it added."""
        answers = sum(row.learned for row in self._batches.rows(state.step))
        # Loss, tokens, FLOPs.
        spent = torch.zeros(3, dtype=torch.float64, device=self._network.device)
        rows = self._team.share(self._batches.rows(state.step))
        for part in divide(rows, self._course.settings.token_budget, self._network.layout):
            packed = self._network.pack(part)
            self._memory.begin()
            loss = self._network.loss_sum(packed)
            self._memory.sample()
            torch.autograd.backward(loss * (1 / answers))
            passed = [float(loss.detach()), packed.useful, self._flops.of(packed)]
            spent += torch.tensor(passed, dtype=torch.float64).to(spent.device)
        self._optimiser.sum_gradients()
        total, useful, flops = self._team.sum(spent).tolist()
        mean, norm = total / answers, self._optimiser.clip()
        _check_finite(mean, norm, step=state.step + 1)
        counted = {
            "tokens": state.tokens + round(useful),
            "loss_tokens": state.loss_tokens + answers,
            "flops": state.flops + flops,
            "peak_memory_gb": max(state.peak_memory_gb, self._memory.peak),
            "process_memory_gb": max(state.process_memory_gb, self._process.gib),
        }
        return mean, state.model_copy(update=counted)

    def _judge(self) -> float:
        """The held-out loss now; keeps the weights when it is the lowest so far.

        A rise counts in the second half of the run alone: before, the rate is so high that a loss may rise and fall again.
        """
        rows = self._held_out.losses()
        loss = self._held_out.mean(rows)
        _check_finite(loss, 0.0, step=self._state.step)
        best = self._state.best_row_losses
        counts = bool(best) and 2 * (self._state.step - self._state.waited) > self._batches.steps
        judged = self._noted().judged(loss, tuple(rows), counts and self._held_out.has_risen(rows, best))
        if judged.best_step == judged.step and self._team.leads:
            self._checkpoints.save_best(judged.step, self._optimiser.weights())
        self._state = self.plateau.judged(judged, rows)
        return loss

    def _note(self, line: TrainingProgress) -> None:
        """Adds ``line`` to the history, stamped with the time that the run has taken (steps, evaluations, checkpoints, former runs),
        and reports it."""
        before, self._lap = self._lap, time.monotonic()
        line = line.model_copy(update={"seconds": self._state.seconds + self._lap - before})
        self._state = self._state.model_copy(update={"seconds": line.seconds})
        self._history.append(line)
        self._whole = True
        # What the report raises in the process that leads ends the run in all of them, at the same step.
        ended: BaseException | None = None
        if self._team.leads:
            try:
                self._report(line)
            except BaseException as error:  # noqa: BLE001 - raised below
                ended = error
        if self._team.any(ended is not None, self._network.device):
            raise ended or KeyboardInterrupt

    def _save(self) -> None:
        if self._team.leads:
            self._whole, started = False, time.monotonic()
            self._checkpoints.save(self._noted(), self._optimiser.tensors())
            self._saved_at = time.monotonic()
            self._whole, self._saving = True, self._saved_at - started


def _check_finite(loss: float, norm: float, *, step: int) -> None:
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise InvalidInput(
            f"the loss or its gradient is no longer a finite number at step {step}",
            "lower the learning rate, lengthen the warm-up, or train in fp32; where step is 0, the base model itself is damaged",
        )
