"""Area under the ROC curve with its interval, scorers compared by it, and the threshold at a stated share of refusals."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tailorbird.domain.evidence import ScopeScorer, ScopeTrial, ScorerTrial
from tailorbird.stats.intervals import Floats, Interval, score_interval


@dataclass(frozen=True)
class ScoredRows:
    """Rows of one kind with every score that each has, and the group of each."""

    scores: Sequence[dict[ScopeScorer, float]]
    groups: Sequence[str]

    def by(self, scorer: ScopeScorer) -> Floats:
        """The scores of one scorer; a row without it lies below all others."""
        return np.array([each.get(scorer, -math.inf) for each in self.scores], dtype=np.float64)

    def of_groups(self) -> ScoredRows:
        """One row of each group, the first: rows of a group are alike, and tell of other groups as one does."""
        firsts = {group: place for place, group in reversed(list(enumerate(self.groups)))}
        return ScoredRows([self.scores[place] for place in firsts.values()], list(firsts))


def auroc(above: Floats, below: Floats) -> float:
    """The share of pairs in which the one of ``above`` has the higher score, ties counting half. Neither may be empty."""
    order = np.sort(below)
    under, upto = np.searchsorted(order, above, side="left"), np.searchsorted(order, above, side="right")
    return float((under + upto).mean() / 2 / len(below))


def auroc_interval(value: float, above: Sequence[str], below: Sequence[str], confidence: float) -> Interval:
    """Wilson's interval at as many items as the rarer kind has groups, of unequal size as many as would be worth as much (Kish 1965): the
    variance of an area A is at most A (1 - A) / min(m, n), whatever the scores (Birnbaum & Klose 1957, Ann. Math. Stat. 28)."""
    return score_interval(value, min(_worth(above), _worth(below)), confidence)


def _worth(groups: Sequence[str]) -> int:
    """Groups of one size that would tell as much as these."""
    sizes = Counter(groups).values()
    return max(1, int(sum(sizes) ** 2 / sum(size**2 for size in sizes)))


def compare_scorers(
    by: Literal["examples", "labels"], folds: Sequence[tuple[ScoredRows, ScoredRows]], confidence: float
) -> ScopeTrial | None:
    """Every scorer that all rows of all folds have, by its area over (known, outside), averaged over the folds; None where a kind is
    missing, or every scorer is."""
    folds = [(known, outside) for known, outside in folds if len(known.scores) and len(outside.scores)]
    if not folds:
        return None
    usable = [scorer for scorer in ScopeScorer if all(scorer in each for fold in folds for rows in fold for each in rows.scores)]
    if not usable:
        return None
    above = [group for known, _ in folds for group in known.groups]
    below = [group for _, outside in folds for group in outside.groups]
    trials = []
    for scorer in usable:
        value = float(np.mean([auroc(known.by(scorer), outside.by(scorer)) for known, outside in folds]))
        low, high = auroc_interval(value, above, below, confidence)
        trials.append(ScorerTrial(scorer=scorer, auroc=value, low=low, high=high))
    return ScopeTrial(
        by=by,
        known=max(len(known.scores) for known, _ in folds),
        outside=sum(len(outside.scores) for _, outside in folds),
        folds=len(folds) if by == "labels" else 0,
        scorers=tuple(trials),
    )


def fewest_to_refuse(at_most: float) -> int:
    """Known rows without which no share of at most ``at_most`` can be refused."""
    return math.ceil(1 / at_most - 1 - 1e-9)


def refusal_threshold(known: Floats, at_most: float) -> float | None:
    """The score below which a further row like ``known`` lies with a probability of at most ``at_most``, whatever the scores' distribution:
    the k-th smallest of n, with k the whole part of ``at_most`` (n + 1) (split conformal prediction; Vovk, Gammerman & Shafer 2005). None
    where there are too few."""
    place = math.floor(at_most * (len(known) + 1) + 1e-9)
    return float(np.sort(known)[place - 1]) if place >= 1 else None
