"""What a run is judged by: the losses of rows that are not learned, and whether they have risen for certain."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from tailorbird.training.batches import divide
from tailorbird.training.network import Network
from tailorbird.training.packing import pack
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
        self._parts = divide(team.share(rows), token_budget)
        self._others = rows[:1]
        self._places = team.share(range(len(rows)))
        self.tokens = [row.learned for row in rows]

    @torch.no_grad()
    def losses(self) -> list[float]:
        """The summed loss of each row's answer, in nats, in the rows' order."""
        found: list[float] = []
        for part in self._parts:
            packed = pack(part, self._network.dtype, self._network.device)
            sums = torch.zeros(len(part), dtype=torch.float64)
            found += sums.index_add_(0, packed.owners_A.cpu(), self._network.answer_losses(packed).double().cpu()).tolist()
        self._keep_up()
        whole = torch.zeros(len(self.tokens), dtype=torch.float64)
        whole[list(self._places)] = torch.tensor(found, dtype=torch.float64)
        losses: list[float] = self._team.sum(whole.to(self._network.device)).tolist()
        return losses

    def _keep_up(self) -> None:
        """Where weights are divided, a process gives away its share in every pass of the others."""
        if self._network.divided:
            for _ in range(self._team.most(len(self._parts), self._network.device) - len(self._parts)):
                self._network.answer_losses(pack(self._others, self._network.dtype, self._network.device))

    def mean(self, losses: Sequence[float]) -> float:
        """Nats per answer token."""
        return math.fsum(losses) / sum(self.tokens)

    def has_risen(self, losses: Sequence[float], best: Sequence[float]) -> bool:
        """Whether ``losses`` lie above ``best`` for certain; fewer than eight rows say nothing certain."""
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
