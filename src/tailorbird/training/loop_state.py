"""How far a run has come, in numbers."""

from __future__ import annotations

from tailorbird.domain.run import TrainingFork, TrainingProgress
from tailorbird.domain.value import Value
from tailorbird.training.work_clocks import LOADED, ClockReading

#: Evaluations in a row that lie above the best beyond their interval, before a run is stopped: one alone may be chance.
_PATIENCE = 2


class LoopState(Value):
    """After ``step`` optimiser steps.

    ``tokens`` counts prompt and answer tokens as if each row stood alone; losses in nats per answer token. ``seconds`` are all time of the
    loop, evaluations included, ``thread_seconds`` the processor's in the thread that runs it, ``kept_seconds`` those in which a thread was
    kept from the cores by other processes. ``token_budget`` and ``recompute`` are how passes are computed since memory was short,
    ``halved_at`` the steps before which the budget was halved. ``best_row_losses`` are those of the best step, ``rises`` the evaluations in
    a row that lay above it for certain. ``pending`` is the line of the last step until it has been judged, where the step is one that is
    judged, and noted: a run that was interrupted meanwhile goes on there. ``waited`` steps were added while the run stood on its plateau
    (``plateau.py``), found after the steps ``waits``; ``left_plateau`` is the step after which it was found to have left it.
    """

    step: int = 0
    tokens: int = 0
    loss_tokens: int = 0
    flops: float = 0.0
    seconds: float = 0.0
    thread_seconds: float = 0.0
    kept_seconds: float = 0.0
    peak_memory_gb: float = 0.0
    first_held_out_loss: float | None = None
    best_held_out_loss: float | None = None
    best_step: int = 0
    best_row_losses: tuple[float, ...] = ()
    rises: int = 0
    stopped_early: int | None = None
    token_budget: int | None = None
    recompute: bool = False
    halved_at: tuple[int, ...] = ()
    forks: tuple[TrainingFork, ...] = ()
    history: tuple[TrainingProgress, ...] = ()
    pending: TrainingProgress | None = None
    waited: int = 0
    waits: tuple[int, ...] = ()
    left_plateau: int | None = None
    untrained_row_losses: tuple[float, ...] = ()

    def spent(self, lap: ClockReading) -> LoopState:
        """With the time of ``lap``."""
        kept = lap.waited / lap.threads
        took = {"seconds": lap.passed, "thread_seconds": lap.thread, "kept_seconds": kept}
        return self.model_copy(update={name: getattr(self, name) + more for name, more in took.items()})

    def judged(self, held_out_loss: float, row_losses: tuple[float, ...], risen: bool) -> LoopState:
        """With a held-out loss measured now; the first of equal losses stays the best.

        ``risen``: it lies above the best for certain. That it does so twice in a row ends the run.
        """
        better = self.best_held_out_loss is None or held_out_loss < self.best_held_out_loss
        rises = self.rises + 1 if risen else 0
        judged: dict[str, object] = {"rises": rises, "stopped_early": self.step if rises >= _PATIENCE else None}
        if self.first_held_out_loss is None:
            judged["first_held_out_loss"] = held_out_loss
        if better:
            judged |= {"best_held_out_loss": held_out_loss, "best_step": self.step, "best_row_losses": row_losses}
        return self.model_copy(update=judged)

    @property
    def loaded(self) -> bool:
        """Whether other processes wanted the cores."""
        return self.kept_seconds > LOADED * self.seconds

    def halved(self, token_budget: int) -> LoopState:
        """With passes of at most ``token_budget`` tokens from the next step on."""
        return self.model_copy(update={"token_budget": token_budget, "halved_at": (*self.halved_at, self.step)})
