"""How probable a text is, and how far two models' next-token distributions lie apart along it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from tailorbird.ports.engine import Likelihood

#: Rows of logits (one vocabulary each) held at once.
_LOGIT_ROWS = 64

#: Hidden states (RE) and what makes logits (RV) of them.
Side = tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]


def likelihood_of(tokens: Sequence[int], said: Side, other: Side | None) -> Likelihood:
    """Of ``tokens`` by ``said``; ``divergence`` is KL(other || said), averaged over the tokens. Both models must read the same tokens."""
    nats, apart = 0.0, 0.0
    for start in range(0, len(tokens), _LOGIT_ROWS):
        said_RV = _nats(said, start)
        wanted_R = torch.tensor(tokens[start : start + _LOGIT_ROWS], device=said_RV.device)
        nats += float(said_RV.gather(1, wanted_R[:, None]).double().sum())
        if other is not None:
            other_RV = _nats(other, start)
            apart += float((other_RV.exp() * (other_RV - said_RV)).sum(dim=1).double().sum())
    return Likelihood(nats=nats, tokens=len(tokens), divergence=apart / len(tokens) if other is not None else None)


def _nats(side: Side, start: int) -> torch.Tensor:
    hidden_RE, logits = side
    return logits(hidden_RE[start : start + _LOGIT_ROWS]).float().log_softmax(dim=1)
