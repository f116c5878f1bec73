"""How far a run has come, in numbers.

In: what each step and evaluation measured. Out: a value that a checkpoint keeps and the report is made from. Must not know: tensors, files.
"""

from __future__ import annotations

from tailorbird.domain.run import TrainingProgress
from tailorbird.domain.value import Value


class LoopState(Value):
    """After ``step`` optimiser steps.

    ``tokens`` counts prompt and answer tokens as if each row stood alone; losses in nats per answer token,
    ``seconds`` all time of the loop, evaluations included.
    """

    step: int = 0
    tokens: int = 0
    loss_tokens: int = 0
    flops: float = 0.0
    seconds: float = 0.0
    peak_memory_gb: float = 0.0
    first_held_out_loss: float | None = None
    best_held_out_loss: float | None = None
    best_step: int = 0
    history: tuple[TrainingProgress, ...] = ()

    def judged(self, held_out_loss: float) -> LoopState:
        """With a held-out loss measured now; the first of equal losses stays the best."""
        better = self.best_held_out_loss is None or held_out_loss < self.best_held_out_loss
        return self.model_copy(
            update={
                "first_held_out_loss": held_out_loss if self.first_held_out_loss is None else self.first_held_out_loss,
                "best_held_out_loss": held_out_loss if better else self.best_held_out_loss,
                "best_step": self.step if better else self.best_step,
            }
        )
