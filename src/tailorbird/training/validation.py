"""Validation losses of a training, tests of their rise, and the plateau before a run begins to learn.

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

import torch

from tailorbird.domain.run import TrainingPlateau
from tailorbird.training.batches import RowLayout, divide
from tailorbird.training.checkpoints import LoopState
from tailorbird.training.network import Network
from tailorbird.training.process_group import ProcessGroup
from tailorbird.training.tokenization import TokenizedRow

#: Half the width of a 95 % interval, in standard errors.
_DEVIATES = 1.96
#: Fewer rows say nothing certain.
_FEWEST = 8


class ValidationRows:
    """Rows on which a run is measured, in passes of at most ``token_budget`` tokens; each process of ``team`` measures its share."""

    def __init__(self, network: Network, rows: Sequence[TokenizedRow], token_budget: int, team: ProcessGroup) -> None:
        self._network = network
        self._team = team
        self._places = list(team.share(range(len(rows))))
        if network.layout is not RowLayout.TREE:
            self._places.sort(key=lambda place: len(rows[place].ids))
        self._parts = divide([rows[place] for place in self._places], token_budget, network.layout)
        self._others = rows[:1]
        self.tokens = [row.learned for row in rows]

    @torch.no_grad()
    def losses(self) -> list[float]:
        """The summed loss of each row's answer, in nats, in the rows' order."""
        found: list[float] = []
        for part in self._parts:
            packed = self._network.pack(part)
            sums = torch.zeros(len(part), dtype=torch.float64)
            found += sums.index_add_(0, packed.owners_A.cpu(), self._network.answer_losses(packed).double().cpu()).tolist()
        self._keep_up()
        whole = torch.zeros(len(self.tokens), dtype=torch.float64)
        whole[self._places] = torch.tensor(found, dtype=torch.float64)
        losses: list[float] = self._team.sum(whole.to(self._network.device)).tolist()
        return losses

    def _keep_up(self) -> None:
        """Where weights are divided, a process gives away its share in every pass of the others."""
        if self._network.divided:
            for _ in range(self._team.most(len(self._parts), self._network.device) - len(self._parts)):
                self._network.answer_losses(self._network.pack(self._others))

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
        lines = [line.loss for line in state.history if line.step][-self._steps.per_pass :]
        learned = self._tokens_of_an_answer * math.fsum(lines) / max(1, len(lines))
        return bool(lines) and learned <= KNOWN * math.fsum(references) / len(references)


def _prior_losses(train: Sequence[TokenizedRow], held_out: Sequence[TokenizedRow]) -> tuple[float, ...]:
    """-log of the frequency in ``train`` of each held-out answer, in nats; one that train lacks counts as seen once."""
    seen = Counter(row.ids[row.prompt :] for row in train)
    return tuple(-math.log(max(1, seen[row.ids[row.prompt :]]) / len(train)) for row in held_out)
