"""How probable given answers are, and how far two models' next-token distributions lie apart along them.

In: a model (perhaps two), prompts and answers as token ids. Out: a ``Likelihood`` per pair. Must not know: servables, messages, labels.
Axes: B rows, T padded length, N tokens of answers, E hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tailorbird.inference.batching import batches, pad_left
from tailorbird.inference.memory import Passing, no_prefix
from tailorbird.inference.model import Model
from tailorbird.ports.engine import Likelihood

#: Padded tokens in one pass, and rows of logits held at once.
_TOKENS, _LOGIT_ROWS = 2048, 128

#: Token ids of a prompt, and of the answer to it.
Pair = tuple[Sequence[int], Sequence[int]]


def answer_likelihoods(model: Model, pairs: Sequence[Pair], other: Model | None = None) -> list[Likelihood]:
    """One ``Likelihood`` per pair, in their order. Both models must read the same tokens."""
    found: list[Likelihood | None] = [None] * len(pairs)
    for batch in batches([len(prompt) + len(answer) for prompt, answer in pairs], 0, _TOKENS):
        chosen = [pairs[i] for i in batch]
        nats, divergences = _scored(model, chosen, other)
        start = 0
        for i, (_, answer) in zip(batch, chosen, strict=True):
            own = slice(start, start := start + len(answer))
            apart = float(divergences[own].mean()) if divergences is not None else None
            found[i] = Likelihood(nats=float(nats[own].sum()), tokens=len(answer), divergence=apart)
    return [one for one in found if one is not None]


def _scored(model: Model, pairs: Sequence[Pair], other: Model | None) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Log-probability of every token of every answer (N, nats), and the KL divergence where it is predicted."""
    hidden_NE, others_NE = _before_answers(model, pairs), _before_answers(other, pairs) if other else None
    wanted_N = torch.tensor([token for _, answer in pairs for token in answer], device=hidden_NE.device)
    nats, apart = [], []
    for start in range(0, len(wanted_N), _LOGIT_ROWS):
        rows = slice(start, start + _LOGIT_ROWS)
        said_NV = model.logits(hidden_NE[rows]).float().log_softmax(dim=1)
        nats.append(said_NV.gather(1, wanted_N[rows, None])[:, 0])
        if other is not None and others_NE is not None:
            theirs_NV = other.logits(others_NE[rows]).float().log_softmax(dim=1)
            apart.append((theirs_NV.exp() * (theirs_NV - said_NV)).sum(dim=1))
    return torch.cat(nats), torch.cat(apart) if apart else None


def _before_answers(model: Model, pairs: Sequence[Pair]) -> torch.Tensor:
    """Hidden states (NE) from which each token of each answer is predicted."""
    # The last token of an answer is predicted, and predicts nothing.
    padded = pad_left([[*prompt, *answer[:-1]] for prompt, answer in pairs], 0, model.shape.device)
    hidden_BTE = model.hidden(padded.tokens_BT, padded.positions_BT, padded.seen_BTK(0), Passing(no_prefix(model.shape)))
    return torch.cat([hidden_BTE[row, -len(answer) :] for row, (_, answer) in enumerate(pairs)])
