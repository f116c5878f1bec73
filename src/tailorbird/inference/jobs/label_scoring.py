"""Texts that are weighed as answers: labels as a tree under the prompt, one text after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from tailorbird.domain.errors import TailorbirdError
from tailorbird.inference.jobs.weight_lease import WeightLease
from tailorbird.inference.scheduling import Sequence as Tokens
from tailorbird.inference.text.label_tree import LabelTrie
from tailorbird.inference.text.sampling import SampledToken, not_finite

#: Rows of logits (one vocabulary each) held at once: few enough that they stay in the processor's cache.
_LOGIT_ROWS = 64

Logits = Callable[[torch.Tensor], torch.Tensor]


class ScoringJob:
    """What labels and texts have in common: they are weighed, not chosen."""

    drawer = None

    def __init__(self, sequence: Tokens, holding: WeightLease) -> None:
        self.sequence = sequence
        self.tree: LabelTrie | None = None
        self._holding = holding

    @property
    def live(self) -> bool:
        """True until it has ended."""
        return self._holding.live

    @property
    def adapter(self) -> object:
        """What it is computed with."""
        return self._holding.adapter

    def choose(self, choice: SampledToken) -> None:
        """Nothing is chosen."""
        raise NotImplementedError

    def fail(self, error: TailorbirdError) -> None:
        """Ends it with an error."""
        self._holding.fail(error)


class LabelScoring(ScoringJob):
    """Every label of a tree. ``tell`` is told their log-probabilities, normalised over the labels."""

    def __init__(self, sequence: Tokens, holding: WeightLease, tree: LabelTrie, tell: Callable[[tuple[float, ...]], object]) -> None:
        super().__init__(sequence, holding)
        self.tree = tree
        self._edges = tree
        self._tell = tell

    def weigh(self, logits: Logits, hidden_RE: torch.Tensor, first: int) -> None:
        """The sources of the tree, the prompt's last token first."""
        del first
        edges = edge_scores(logits, hidden_RE, self._edges.edge_sources, self._edges.edge_tokens)
        # One more edge, worth nothing, fills up the shorter paths.
        padded = torch.cat([edges, edges.new_zeros(1)])
        found = torch.log_softmax(padded[self._edges.path_LE].sum(dim=1), dim=0)
        if not found.isfinite().all():
            raise not_finite()
        if self._holding.end():
            self._tell(tuple(found.tolist()))


class TextScoring(ScoringJob):
    """One text at the end of the sequence. ``tell`` is told the hidden states (RE) from which each of its tokens is predicted."""

    def __init__(self, sequence: Tokens, holding: WeightLease, tell: Callable[[torch.Tensor], object]) -> None:
        super().__init__(sequence, holding)
        self._parts: list[torch.Tensor] = []
        self._tell = tell

    def weigh(self, logits: Logits, hidden_RE: torch.Tensor, first: int) -> None:
        """A run of the text's tokens; the last run ends it."""
        del logits
        self._parts.append(hidden_RE)
        if first + len(hidden_RE) == len(self.sequence.tokens) and self._holding.end():
            self._tell(torch.cat(self._parts))


def edge_scores(logits: Logits, hidden_RE: torch.Tensor, sources: Sequence[int], tokens: Sequence[int]) -> torch.Tensor:
    """Log-probability (nats, fp32) of each token at its source. Sources ascend."""
    at, wanted = torch.tensor(sources, device=hidden_RE.device), torch.tensor(tokens, device=hidden_RE.device)
    parts = []
    for start in range(0, len(hidden_RE), _LOGIT_ROWS):
        logits_RV = logits(hidden_RE[start : start + _LOGIT_ROWS])
        here = (at >= start) & (at < start + len(logits_RV))
        rows = at[here] - start
        parts.append(logits_RV[rows, wanted[here]] - logits_RV.logsumexp(dim=1)[rows])
    return torch.cat(parts)
