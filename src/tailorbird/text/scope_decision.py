"""Scope decision: how well a request lies in the scope of its labels, and whether it is refused, in evaluation and serving alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from unicodedata import category

from tailorbird.domain.prompt import PromptSpec
from tailorbird.domain.scope import ScopeRule, ScopeScorer
from tailorbird.ports.engine import LabelScores
from tailorbird.text.label_decision import prior_shift, without_priors

#: Nats that a cosine of 1 is worth beside a probability: chosen on Banking77 (docs/decisions/0111).
_NATS = 5.0


def scope_scores(prompt: PromptSpec, scores: LabelScores) -> dict[ScopeScorer, float]:
    """Every score of a request that can be told, of a prompt with one label an item; more lies further in scope. The prompt's priors are
    taken off the labels' scores before any of them is made."""
    energy = None if scores.energy is None else scores.energy + prior_shift(prompt, scores.log_probabilities)
    return scores_of(without_priors(prompt, scores.log_probabilities), energy, scores.nearness)


def scores_of(log_probabilities: Sequence[float], energy: float | None, nearness: float | None) -> dict[ScopeScorer, float]:
    """The same from the log-probabilities (nats) of labels, of which there are two or more."""
    first, second = sorted(log_probabilities, reverse=True)[:2]
    found = {ScopeScorer.PROBABILITY: float(first), ScopeScorer.MARGIN: float(first - second)}
    if energy is not None:
        found[ScopeScorer.ENERGY] = energy
    if nearness is not None:
        found |= {ScopeScorer.NEARNESS: nearness, ScopeScorer.BOTH: float(first) + _NATS * nearness}
    return found


#: Spaces, ends of lines, controls and marks without a shape; not what this version of Unicode does not know: it may be a new emoji.
_UNSEEN = ("Zs", "Zl", "Zp", "Cc", "Cf")


def is_blank(text: str) -> bool:
    """True for a text of nothing but spaces and what is not seen. No row is blank, so that no scorer was chosen to tell such a request."""
    return all(category(letter) in _UNSEEN for letter in text)


def is_outside(scores: Mapping[ScopeScorer, float], rule: ScopeRule | None) -> bool:
    """True where the rule refuses a request; what its scorer gives no number is refused, too. False where there is no rule."""
    if rule is None:
        return False
    found = scores.get(rule.scorer)
    return found is None or not found >= rule.refuse_below
