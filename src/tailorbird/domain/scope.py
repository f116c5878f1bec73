"""Scope of a classifying task: what is said of requests that none of its labels fits, and how they are told from the others."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from tailorbird.domain.value import Section, Value

#: The label of examples that none of the task's labels fits, unless the objective names another.
OUT_OF_SCOPE = "out of scope"

#: Groups of examples by which a scorer is chosen; of fewer, one alone would choose it, and labels are left out as without any.
FEWEST_EXAMPLES = 20


class ScopePolicy(Section):
    """Requests that none of the labels fits are not labelled, and people receive them."""

    refuse_known_at_most: Annotated[float, Field(ge=0.001, le=0.5)] = 0.05
    """The share of requests that a label does fit, and that may be refused all the same: the threshold is calibrated on dev to it."""
    label: str = Field(default=OUT_OF_SCOPE, min_length=1, max_length=200)
    """What the label column says of an example that none of the labels fits. Examples are not needed; they are measured on, and never
    learned from. A file of nothing else is a source with ``out_of_scope: true``."""


class ScopeScorer(StrEnum):
    """What tells how well a request lies in scope; more is better, and of scorers that do equally well the first one is taken.

    ``PROBABILITY`` is that of the likeliest label (Hendrycks & Gimpel 2017, arXiv 1610.02136), ``MARGIN`` its distance from the second in
    nats, ``ENERGY`` the logarithm of the sum of all exponentiated scores (Liu et al. 2020, arXiv 2010.03759), ``NEARNESS`` the cosine of a
    text's vector and that of the nearest training row (Sun et al. 2022, arXiv 2204.06507). ``BOTH`` is the logarithm of the
    probability with five times the nearness. The last three need what scores to give them.
    """

    PROBABILITY = "probability"
    MARGIN = "margin"
    ENERGY = "energy"
    NEARNESS = "nearness"
    BOTH = "both"


class ScopeRule(Value):
    """A request whose score by ``scorer`` lies below ``refuse_below`` is out of scope."""

    scorer: ScopeScorer
    refuse_below: float


class ScorerTrial(Value):
    """How well a scorer tells what is in scope: the area under its ROC curve, with its interval."""

    scorer: ScopeScorer
    auroc: float
    low: float
    high: float


class ScopePoint(Value):
    """What one threshold does: the shares of requests in scope that are refused, and of those out of scope that are answered."""

    refuse_below: float
    known_refused: float
    out_of_scope_answered: float


class ScopeTrial(Value):
    """Scorers compared. ``by``: on ``examples`` that are out of scope, or on rows of known labels that were left out of fitting
    (``labels``: each once, in ``folds`` parts by the hash of their names). ``known`` and ``outside`` count the rows of both kinds."""

    by: Literal["examples", "labels"]
    known: int
    outside: int
    folds: int = 0
    scorers: tuple[ScorerTrial, ...]

    @property
    def best(self) -> ScorerTrial:
        """The scorer that tells best; of equals the first."""
        return max(self.scorers, key=lambda trial: trial.auroc)


class ScopeEvidence(Value):
    """How requests out of scope are refused: the rule, what its scorer was chosen by on dev (None: nothing could tell scorers apart, the
    first one is used), and what other thresholds would do on this split, where it holds examples. ``refused`` counts this split's items
    that a label fits and that the rule refuses, by the label that they would have been given."""

    rule: ScopeRule
    trial: ScopeTrial | None = None
    points: tuple[ScopePoint, ...] = ()
    refused: dict[str, int] = Field(default_factory=dict)

    @property
    def sentences(self) -> tuple[str, ...]:
        """The rule, and how it was chosen."""
        rule = (
            f"a request whose {self.rule.scorer.value} lies below {self.rule.refuse_below:.4g} is out of scope: no label, and people get it"
        )
        if self.trial is None:
            return rule, "there are no examples, and too few labels to leave any out: how well it tells is not known"
        trial = self.trial
        by = (
            f"{trial.outside:,} examples"
            if trial.by == "examples"
            else f"{trial.outside:,} rows of labels left out, {trial.folds} parts in turn"
        )
        areas = ", ".join(f"{each.scorer.value} {each.auroc:.3f} [{each.low:.3f}, {each.high:.3f}]" for each in trial.scorers)
        return rule, f"chosen on dev by {by}, against {trial.known:,} rows that a label fits; area under the ROC curve: {areas}"
