"""Label decision: from the scores of answers to one label or several, in evaluation and serving alike.

With several labels an answer is a set of them (``label_sets.py``), and the answers that are scored are the sets that training showed. A
label's probability is that of all sets which hold it, or what was found for it alone, and a label is given when that reaches its threshold:
so a set can be answered that no training row had. The threshold is a half, or what the prompt names: it was chosen on rows held out of
train (``rungs.label_thresholds``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tailorbird.domain.prompt import PromptSpec
from tailorbird.text import label_sets

#: A label is given at this probability, unless the prompt names another.
THRESHOLD = 0.5


@dataclass(frozen=True)
class LabelDecision:
    """An answer and the probability of each label: they add to 1 where one label is asked for."""

    answer: str
    probabilities: dict[str, float]


def decide_label(prompt: PromptSpec, log_probabilities: Sequence[float]) -> LabelDecision:
    """The answer to a text; ``log_probabilities`` (nats) are those of ``prompt.answers``, normalised over them, in their order.

    Of labels that score alike the first one listed wins. What the model prefers before it has read anything is taken off first.
    """
    probabilities = [math.exp(nats) for nats in without_priors(prompt, log_probabilities)]
    scored = dict(zip(prompt.answers, probabilities, strict=True))
    if prompt.alone:
        return LabelDecision(labels_above(scored, prompt.thresholds), scored)
    if not prompt.label_sets:
        return LabelDecision(max(scored, key=scored.__getitem__), scored)
    marginals = dict.fromkeys(prompt.labels, 0.0)
    for answer, probability in scored.items():
        for label in label_sets.split(answer):
            marginals[label] += probability
    capped = {label: min(1.0, probability) for label, probability in marginals.items()}
    return LabelDecision(labels_above(capped, prompt.thresholds), capped)


def without_priors(prompt: PromptSpec, log_probabilities: Sequence[float]) -> tuple[float, ...]:
    """Log-probabilities less the prompt's priors, normalised again; as they are where there are no priors."""
    scores, total = _less_priors(prompt, log_probabilities)
    return tuple(score - total for score in scores)


def prior_shift(prompt: PromptSpec, log_probabilities: Sequence[float]) -> float:
    """Nats by which the logarithm of the sum of all exponentiated scores grows where the prompt's priors are taken off each of them."""
    return _less_priors(prompt, log_probabilities)[1]


def _less_priors(prompt: PromptSpec, log_probabilities: Sequence[float]) -> tuple[list[float], float]:
    """Scores less the prompt's priors, and the logarithm of their exponentiated sum (0 without priors: they are normalised)."""
    if not prompt.priors:
        return list(log_probabilities), 0.0
    scores = [nats - prior for nats, prior in zip(log_probabilities, prompt.priors, strict=True)]
    highest = max(scores)
    return scores, highest + math.log(sum(math.exp(score - highest) for score in scores))


def labels_above(marginals: dict[str, float], thresholds: Sequence[float] = ()) -> str:
    """The set of the labels whose probability reaches its threshold; ``thresholds`` in the order of ``marginals``, empty: a half."""
    bounds = thresholds or (THRESHOLD,) * len(marginals)
    return label_sets.join(label for (label, found), bound in zip(marginals.items(), bounds, strict=True) if found >= bound)


def is_referred(found: LabelDecision, refer_below: float | None) -> bool:
    """True when the answer is not sure enough to be given, and a person must decide: its probability lies below ``refer_below``."""
    return refer_below is not None and found.probabilities.get(found.answer, 0.0) < refer_below
