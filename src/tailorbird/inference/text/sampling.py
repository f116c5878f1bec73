"""Which token comes next."""

from __future__ import annotations

from typing import NamedTuple

import torch

from tailorbird.domain.errors import Internal
from tailorbird.domain.prompt import Sampling
from tailorbird.inference.text.json_constraint import Constraint

#: Of a narrow draw so many of the likeliest tokens are looked at first: sorting the whole vocabulary costs as much as a step.
_FIRST_LOOK = 256
#: Below this temperature the likeliest token is drawn: a smaller one leaves it all of the probability, and one near zero cannot divide.
_COLDEST = 1e-5


class SampledToken(NamedTuple):
    """A token; where asked for, its log-probability (nats) and the likeliest tokens with theirs."""

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


class RowSampler:
    """How one row draws. ``place`` is its place in the call, so that equal prompts of one call differ."""

    def __init__(self, sampling: Sampling, place: int = 0, constraint: Constraint | None = None) -> None:
        self.sampling = sampling
        self.constraint = constraint
        draws = sampling.temperature >= _COLDEST
        self._generator = torch.Generator().manual_seed((sampling.seed + place) % 2**63) if draws else None

    @property
    def is_plain(self) -> bool:
        """True when the likeliest token is all that is asked for."""
        return self._generator is None and self.constraint is None and self.sampling.logprobs is None

    def draw(self, logits_V: torch.Tensor) -> SampledToken:
        """One token. Log-probabilities are those of the model, before anything was left out."""
        allowed_V = self.constraint.mask(logits_V) if self.constraint else logits_V
        token = (
            int(allowed_V.argmax()) if self._generator is None else self._sampled(allowed_V / self.sampling.temperature, self._generator)
        )
        if self.constraint:
            self.constraint.take(token)
        if self.sampling.logprobs is None:
            return SampledToken(token)
        nats_V = torch.log_softmax(logits_V.float(), dim=0)
        values, places = nats_V.topk(self.sampling.logprobs)
        return SampledToken(token, float(nats_V[token]), tuple(zip(places.tolist(), values.tolist(), strict=True)))

    def _sampled(self, logits_V: torch.Tensor, generator: torch.Generator) -> int:
        """From the nucleus (Holtzman et al. 2020) of the likeliest ``top_k``."""
        top_p, top_k = self.sampling.top_p, self.sampling.top_k or len(logits_V)
        odds_V = torch.softmax(logits_V, dim=0)
        if top_p >= 1 and top_k >= len(logits_V):
            return int(torch.multinomial(odds_V.cpu(), 1, generator=generator))
        odds_K, order_K = odds_V.topk(min(top_k, _FIRST_LOOK, len(odds_V)))
        if len(odds_K) < top_k and odds_K.sum() < top_p:
            odds_K, order_K = odds_V.topk(min(top_k, len(odds_V)))
        # The token that crosses the threshold belongs to the nucleus, so the mass before it is what counts; the first always does. The
        # threshold is a share of what top_k left.
        kept = odds_K.sum() if top_k < len(odds_V) else 1.0
        before_K = odds_K.cumsum(dim=0) - odds_K
        odds_K[before_K >= max(top_p, 1e-9) * kept] = 0.0
        return int(order_K[torch.multinomial(odds_K.cpu(), 1, generator=generator)])


def likeliest(logits_BV: torch.Tensor) -> list[tuple[int, bool]]:
    """The likeliest token of each row, and whether the row can be chosen from: no logit is NaN, and the highest is finite."""
    tokens_B = logits_BV.argmax(dim=1)  # of a NaN, where there is one
    highest_B = logits_BV.gather(1, tokens_B[:, None]).squeeze(1)
    return list(zip(tokens_B.tolist(), highest_B.isfinite().tolist(), strict=True))


def choose(logits_V: torch.Tensor, drawer: RowSampler, greedy: int, *, finite: bool) -> SampledToken:
    """The next token of a row whose likeliest is ``greedy``. Raises Internal where the row is not ``finite``."""
    if not finite:
        raise not_finite()
    return SampledToken(greedy) if drawer.is_plain else drawer.draw(logits_V)


def not_finite() -> Internal:
    """What a request is told whose model computed NaN or infinity."""
    return Internal(
        "the model's output for this request is not finite (NaN or infinity)",
        "look for damaged or diverged weights in this release; roll it back meanwhile",
        code="output_not_finite",
    )
