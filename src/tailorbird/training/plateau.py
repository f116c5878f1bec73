"""Whether a run has begun to learn, and how long it waits for that before its rate falls.

A model first learns which answers there are and how often each is given; its loss then stands at the entropy of that distribution until it
finds what in a text tells the answers apart. When it does so depends on the seed. A schedule that falls regardless may have spent its rate
before: of equal runs some then learn all, and some nothing. So the schedule stops at a quarter of its steps while the run stands on the
plateau, and goes on when it has left it, or when the steps that may be added are used up.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tailorbird.domain.run import TrainingPlateau
from tailorbird.training.loop_state import LoopState
from tailorbird.training.tokenization import TokenizedRow
from tailorbird.training.validation import is_lower

#: Share of the planned steps after which the schedule waits: with a warm-up of a tenth the rate is then 93 % of its height.
WAITS_AT = 0.25
#: A loss this share below that of the plateau has left it.
FALL = 0.2
#: Labels are left, too, when the learned rows of the last pass have at most this share of the plateau's loss.
KNOWN = 0.5


@dataclass(frozen=True)
class StepBudget:
    """``planned`` steps of a run; ``warmup`` among them; how many may be ``added``; how many make a pass."""

    planned: int
    warmup: int
    added: int
    per_pass: int


class Plateau:
    """The plateau of a run. Where answers are labels it is what knowing their frequencies in train costs on the held-out rows (nats); where
    they are texts, the loss of the untrained model."""

    def __init__(self, train: Sequence[TokenizedRow], held_out: Sequence[TokenizedRow], labels: bool, steps: StepBudget) -> None:
        self._steps = steps
        self._waits_at = max(steps.warmup, math.ceil(WAITS_AT * steps.planned))
        self._references = _prior_losses(train, held_out) if labels else None
        self._tokens_of_an_answer = sum(row.learned for row in train) / len(train)

    def judged(self, state: LoopState, losses: Sequence[float]) -> LoopState:
        """``state``, just evaluated, with its schedule put off where the held-out ``losses`` (by row, nats) are still the plateau's."""
        if state.step == 0:
            return state if self._references else state.model_copy(update={"untrained_row_losses": tuple(losses)})
        if state.left_plateau is not None:
            return state
        if self._has_left(state, losses):
            return state.model_copy(update={"left_plateau": state.step})
        added = min(state.step - state.waited - self._waits_at, self._steps.added - state.waited)
        if added <= 0:
            return state
        return state.model_copy(update={"waited": state.waited + added, "waits": (*state.waits, state.step)})

    def told(self, state: LoopState) -> TrainingPlateau | None:
        """What a report says of it; None where the run left the plateau without waiting."""
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
        lines = [line.loss for line in state.history if line.step][-self._steps.per_pass :]
        learned = self._tokens_of_an_answer * math.fsum(lines) / max(1, len(lines))
        return bool(lines) and learned <= KNOWN * math.fsum(references) / len(references)


def _prior_losses(train: Sequence[TokenizedRow], held_out: Sequence[TokenizedRow]) -> tuple[float, ...]:
    """-log of the frequency in ``train`` of each held-out answer, in nats; one that train lacks counts as seen once."""
    seen = Counter(row.ids[row.prompt :] for row in train)
    return tuple(-math.log(max(1, seen[row.ids[row.prompt :]]) / len(train)) for row in held_out)
