"""Which token comes next.

In: logits of one step; how to draw. Out: token ids. A row's draws depend on the seed and on its place in the call, not on the rows beside
it. Must not know: models, text.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tailorbird.domain.prompt import Sampling


class Drawer:
    """Draws the tokens of one call's rows."""

    def __init__(self, sampling: Sampling, rows: Sequence[int]) -> None:
        self._sampling = sampling
        self._generators = {row: torch.Generator().manual_seed((sampling.seed + row) % 2**63) for row in rows}

    def draw(self, logits_BV: torch.Tensor, rows: Sequence[int]) -> list[int]:
        """One token for each of ``rows``: the likeliest at temperature 0, else from the nucleus (Holtzman et al. 2020)."""
        if self._sampling.temperature <= 0:
            greedy: list[int] = logits_BV.argmax(dim=1).tolist()
            return greedy
        sorted_BV, order_BV = torch.softmax(logits_BV / self._sampling.temperature, dim=1).sort(dim=1, descending=True, stable=True)
        # The token that crosses the threshold belongs to the nucleus, so the mass before it is what counts; the first always does.
        before_BV = sorted_BV.cumsum(dim=1) - sorted_BV
        sorted_BV[before_BV >= max(self._sampling.top_p, 1e-9)] = 0.0
        nucleus_BV, order_BV = sorted_BV.cpu(), order_BV.cpu()
        drawn = []
        for place, row in enumerate(rows):
            choice = torch.multinomial(nucleus_BV[place], 1, generator=self._generators[row])
            drawn.append(int(order_BV[place, choice]))
        return drawn
