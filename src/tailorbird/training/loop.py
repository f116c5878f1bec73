"""Training loop of every method: steps, evaluations, checkpoints, and the JSONL file of metrics.

A step whose passes would not fit the free memory is taken in smaller passes, and then with activations computed again: the batch, and so
what is learned, stays the same.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.plan import TrainingSettings
from tailorbird.domain.run import TrainingProgress
from tailorbird.ports.trainer import ReportProgress
from tailorbird.system.machine import PeakMemory, resident_gib, return_freed_memory
from tailorbird.system.threads import Barriers, Laps
from tailorbird.training.batches import Batches, divide, packed_tokens
from tailorbird.training.checkpoints import Checkpoints, LoopState
from tailorbird.training.deferred_signals import unbroken
from tailorbird.training.devices import is_gpu, thread_pool
from tailorbird.training.network import Network
from tailorbird.training.optimiser import Optimiser, learning_rate, warmup_steps
from tailorbird.training.resource_meter import Flops, MemoryMeter, MemoryWatch, predicted_gib_per_token
from tailorbird.training.tokenization import TokenizedRow
from tailorbird.training.validation import Plateau, StepBudget, ValidationRows


class MetricsFile:
    """One line for each step, as ``TrainingProgress``; a run that goes on from a checkpoint rewrites what stood after it."""

    def __init__(self, workspace: Path) -> None:
        self._path = workspace / "metrics.jsonl"

    def rewrite(self, history: Sequence[TrainingProgress]) -> None:
        """Starts with what is known."""
        new = self._path.with_suffix(".new")
        new.write_text("".join(line.model_dump_json() + "\n" for line in history), encoding="utf-8")
        new.replace(self._path)

    def append(self, line: TrainingProgress) -> None:
        """Adds a line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line.model_dump_json() + "\n")


#: Seconds between checkpoints; a checkpoint that takes long is made more rarely, so that at most this share of the time goes into them.
_CHECKPOINT_SECONDS = 30.0
_CHECKPOINT_SHARE = 0.05
#: Passes of ever other lengths leave free memory between what is held, which the allocator keeps: it is returned to the system when the
#: process holds this many times what it held after the step that followed the last return. (Every page that is returned is faulted in
#: again: a return after each step cost 7 % of a training's pace.)
_KEPT_MEMORY = 1.1
#: Who interrupts a run waits for its last checkpoint where one takes no longer than this; else the one before stands.
_LAST_CHECKPOINT_SECONDS = 1.0


class CheckpointClock:
    """When checkpoints are due. One that is broken off is not begun again on leaving."""

    def __init__(self) -> None:
        self._saved_at, self._seconds = time.monotonic(), 0.0

    @property
    def is_due(self) -> bool:
        """True once the last lies far enough back."""
        return time.monotonic() - self._saved_at > max(_CHECKPOINT_SECONDS, self._seconds / _CHECKPOINT_SHARE)

    @property
    def is_quick(self) -> bool:
        """True where who interrupts a run waits for one."""
        return self._seconds <= _LAST_CHECKPOINT_SECONDS

    @contextmanager
    def timed(self) -> Iterator[None]:
        """One is made."""
        started, self._seconds = time.monotonic(), math.inf
        yield
        self._saved_at = time.monotonic()
        self._seconds = self._saved_at - started


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
        self.plateau = plateau_of(course, self._batches)
        self._flops = Flops(network.model)
        self._memory, self._process = MemoryMeter(network.device), PeakMemory()
        self._watch = MemoryWatch(network.device, predicted_gib_per_token(network.model, network.dtype), self._memory)
        self._held_out = ValidationRows(network, course.held_out, course.settings.token_budget, self._team)
        self._metrics = MetricsFile(checkpoints.workspace)
        self._state = LoopState()
        #: False while weights and numbers belong to different steps.
        self._settled = True
        self._laps, self._clock, self._held = Laps(thread_pool(network.device)), CheckpointClock(), 0.0

    def run(self) -> LoopState:
        """Trains to the end, from a checkpoint where there is one. The best weights lie with the checkpoints.

        Raises InvalidInput ``loss_not_finite`` and Conflict (``checkpoint_foreign``, ``checkpoint_damaged``). An interruption drops the
        gradients of the step it falls into, saves what was learned before unless that is slow, and is passed on.
        """
        self._resume()
        barriers = Barriers(thread_pool(self._network.device))
        self._network.before_pass = barriers.look
        try:
            self._climb()
        except KeyboardInterrupt:
            self._optimiser.forget_gradients()
            # In the middle of an update nothing may be kept; the last checkpoint stands.
            if self._settled and self._state.history and self._clock.is_quick:
                self._save()
            raise
        finally:
            barriers.spin()
        self._optimiser.retire()
        return self._state

    def _resume(self) -> None:
        found = self._checkpoints.newest() if self._team.leads else None  # the one that leads chooses for all
        step = self._team.most(found.state.step if found else -1, self._network.device)
        if step >= 0 and found is None:
            found = self._checkpoints.at(step)
        if found is not None:
            self._state = found.state
            self._optimiser.restore(found.tensors)
        self._network.recompute = self._state.recompute
        if self._team.leads:
            self._metrics.rewrite(self._state.history)

    def _climb(self) -> None:
        if self._state.best_held_out_loss is None:
            self._evaluate_untrained()
        while self._state.pending or (self._state.step < self._steps and self._state.stopped_early is None):
            if self._state.pending is None:
                self._make_room()
            line = self._state.pending or self._step()
            evaluated = line.held_out_loss is not None or self._batches.evaluates(self._state.step) or self._state.step == self._steps
            if evaluated and line.held_out_loss is None:
                line = line.model_copy(update={"held_out_loss": self._judge()})
            with unbroken():
                self._note(line.model_copy(update={"steps": self._steps, "added": self._state.waited}))
            if evaluated or self._checkpoint_due():
                self._save()

    @property
    def _steps(self) -> int:
        """Steps of the whole run, as far as is known: those planned, and those that it waited."""
        return self._batches.steps + self._state.waited

    def _make_room(self) -> None:
        """Before a step that would not fit: halves the passes while they hold several rows, then recomputes activations. Kept at once."""
        before = self._state
        while self._team.any(not self._watch.fits(self._longest(self._state)), self._network.device):
            if self._team.any(any(len(part) > 1 for part in self._parts(self._state)), self._network.device):
                # A budget above the longest pass would change nothing: where there is one process, it is not tried.
                widest = max(self._tokens(part) for part in self._batches.at(self._state.step, self._state.token_budget))
                budget = min(self._state.token_budget or self._course.settings.token_budget, widest)
                self._state = self._state.halved(max(1, budget // 2))
            else:
                if self._network.can_recompute:
                    self._state = self._state.model_copy(update={"recompute": True})
                break
        if self._state is not before:
            self._network.recompute = self._state.recompute
            self._save()

    def _parts(self, state: LoopState) -> list[list[TokenizedRow]]:
        """This process's passes of the next step."""
        budget = state.token_budget or self._course.settings.token_budget
        return divide(self._team.share(self._batches.rows(state.step)), budget, self._network.layout)

    def _tokens(self, part: list[TokenizedRow]) -> int:
        return packed_tokens(part, self._network.layout)

    def _longest(self, state: LoopState) -> int:
        return max((self._tokens(part) for part in self._parts(state)), default=0)

    def _evaluate_untrained(self) -> None:
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

    def _step(self) -> TrainingProgress:
        started, before = time.monotonic(), self._state
        rate = learning_rate(self._course.settings, before.step - before.waited, self._batches.steps)
        loss, spent = self._gradients(before)
        # Until here an interruption leaves the weights as they were; in the update it waits.
        with unbroken():
            self._settled = False
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
            self._state = spent.model_copy(update={"step": line.step, "pending": line})
            self._settled = True
        self._return_memory()
        return line

    def _return_memory(self) -> None:
        """Between two steps, where the process has grown since the step after the last return."""
        held = 0.0 if is_gpu(self._network.device) else resident_gib()
        if not self._held:
            self._held = held
        elif held > _KEPT_MEMORY * self._held:
            return_freed_memory()
            self._held = 0.0

    def _gradients(self, state: LoopState) -> tuple[float, LoopState]:
        """Clipped gradients of the mean loss over the loss tokens of a whole optimiser batch: that loss, and the counts with it added."""
        answers = sum(row.learned for row in self._batches.rows(state.step))
        # Loss, tokens, FLOPs.
        spent = torch.zeros(3, dtype=torch.float64, device=self._network.device)
        for part in self._parts(state):
            spent += self._pass(part, 1 / answers).to(spent.device)
        self._keep_up(state)
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

    def _pass(self, part: list[TokenizedRow], weight: float) -> torch.Tensor:
        """Adds the gradients of a part's loss, weighted; the loss in nats, useful tokens, FLOPs: (3,)."""
        packed = self._network.pack(part)
        self._memory.begin()
        loss = self._network.loss_sum(packed)
        self._memory.sample()
        self._watch.passed(packed.tokens)
        torch.autograd.backward(loss * weight)
        return torch.tensor([float(loss.detach()), packed.useful, self._flops.of(packed)], dtype=torch.float64)

    def _keep_up(self, state: LoopState) -> None:
        """Where weights are divided, a process gives away its share in every pass of the others."""
        if self._network.divided:
            mine = len(self._parts(state))
            for _ in range(self._team.most(mine, self._network.device) - mine):
                self._pass(self._batches.rows(state.step)[:1], 0.0)

    def _judge(self) -> float:
        """The held-out loss now; keeps the weights when it is the lowest so far.

        A rise counts in the second half of the run alone: before, the rate is so high that a loss may rise and fall again.
        """
        rows = self._held_out.losses()
        loss = self._held_out.mean(rows)
        _check_finite(loss, 0.0, step=self._state.step)
        best = self._state.best_row_losses
        counts = bool(best) and 2 * (self._state.step - self._state.waited) > self._batches.steps
        judged = self._state.judged(loss, tuple(rows), counts and self._held_out.has_risen(rows, best))
        if judged.best_step == judged.step:
            weights = self._optimiser.weights()
            if self._team.leads:
                self._checkpoints.save_best(judged.step, weights)
        pending = judged.pending and judged.pending.model_copy(update={"held_out_loss": loss})
        self._state = self.plateau.judged(judged.model_copy(update={"pending": pending}), rows)
        return loss

    def _note(self, line: TrainingProgress) -> None:
        """Adds ``line`` to the history, stamped with the time that the run has taken: steps, evaluations, checkpoints, former sittings."""
        spent = self._state.spent(self._laps.lap())
        line = line.model_copy(update={"seconds": spent.seconds})
        self._state = spent.model_copy(update={"history": (*spent.history, line), "pending": None})
        self._tell(line)

    def _tell(self, line: TrainingProgress) -> None:
        """Reports. That the report ends the run, in the process that leads, ends it in all of them at the same step."""
        ended: BaseException | None = None
        if self._team.leads:
            self._metrics.append(line)
            try:
                self._report(line)
            except BaseException as error:  # noqa: BLE001 - raised below
                ended = error
        if self._team.any(ended is not None, self._network.device):
            raise ended or KeyboardInterrupt

    def _checkpoint_due(self) -> bool:
        """By the clock of the one that leads, which alone writes; where weights are divided, the others give their share to it."""
        due = self._clock.is_due and self._team.leads
        return self._team.any(due, self._network.device) if self._network.divided else due

    def _save(self) -> None:
        with self._clock.timed():
            tensors = self._optimiser.tensors()
            if self._team.leads:
                self._checkpoints.save(self._state, tensors)


def plateau_of(course: TrainingCourse, batches: Batches) -> Plateau:
    """The plateau that a run has to leave."""
    settings, per_pass = course.settings, batches.steps_per_epoch
    added = settings.waiting_epochs * per_pass
    steps = StepBudget(planned=batches.steps, warmup=warmup_steps(settings, batches.steps), added=added, per_pass=per_pass)
    return Plateau(course.train, course.held_out, course.labels, steps)


def _check_finite(loss: float, norm: float, *, step: int) -> None:
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise InvalidInput(
            f"the loss or its gradient is no longer a finite number at step {step}",
            "lower the learning rate, lengthen the warm-up, or train in fp32; where step is 0, the base model itself is damaged",
            code="loss_not_finite",
        )
