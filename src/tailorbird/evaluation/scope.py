"""Metrics of what is out of scope: both errors of a rule, the area under the ROC curve, and scorers compared on labels left out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from tailorbird.domain.dataset import Row
from tailorbird.domain.evidence import Metric, Prediction, ScopePoint, ScopeRule, ScopeScorer, ScopeTrial
from tailorbird.evaluation.measure_spec import share
from tailorbird.stats.roc import ScoredRows, auroc, auroc_interval, compare_scorers, refusal_threshold
from tailorbird.text.label_rules import is_outside, left_out_labels

#: Shares of known rows at whose refusal it is told what would happen.
_SHARES = (0.01, 0.02, 0.05, 0.1, 0.2)


def scope_metrics(rule: ScopeRule, known: ScoredRows, outside: ScoredRows, confidence: float) -> Iterator[Metric]:
    """``known_refused``; and where there are examples that are out of scope, ``out_of_scope_answered`` and ``out_of_scope_auroc``, whose
    ``n`` is that of the rarer kind."""
    yield share("known_refused", [is_outside(each, rule) for each in known.scores], known.groups, confidence)
    if not outside.scores:
        return
    yield share("out_of_scope_answered", [not is_outside(each, rule) for each in outside.scores], outside.groups, confidence)
    area = auroc(known.by(rule.scorer), outside.by(rule.scorer))
    low, high = auroc_interval(area, known.groups, outside.groups, confidence)
    n = min(len(known.scores), len(outside.scores))
    yield Metric(name="out_of_scope_auroc", value=area, low=low, high=high, confidence=confidence, n=n, method="wilson-auroc")


def scope_points(scorer: ScopeScorer, known: ScoredRows, outside: ScoredRows) -> tuple[ScopePoint, ...]:
    """What thresholds at several shares of refused known rows do, set by groups as the rule's is; none without examples."""
    if not outside.scores:
        return ()
    ours, theirs, alike = known.by(scorer), outside.by(scorer), known.of_groups().by(scorer)
    bounds = dict.fromkeys(found for at_most in _SHARES if (found := refusal_threshold(alike, at_most)) is not None)
    return tuple(
        ScopePoint(refuse_below=bound, known_refused=float((ours < bound).mean()), out_of_scope_answered=float((theirs >= bound).mean()))
        for bound in bounds
    )


def trial_by_columns(labels: Sequence[str], predictions: Sequence[Prediction], rows: Sequence[Row], confidence: float) -> ScopeTrial | None:
    """Scorers compared on ``rows`` whose label is taken from those that may be given; each label is left out once. None where a row has no
    probabilities, or with too few labels."""
    folds, asked = [], {row.id: row for row in rows}
    for gone in left_out_labels(labels):
        sides = {side: [each for each in predictions if (asked[each.item].answer in gone) is side] for side in (False, True)}
        known, outside = (
            ScoredRows([_without(each, gone) for each in side], [asked[each.item].group for each in side]) for side in sides.values()
        )
        folds.append((known, outside))
    return compare_scorers("labels", folds, confidence)


def _without(prediction: Prediction, gone: frozenset[str]) -> dict[ScopeScorer, float]:
    """Scores over the labels that are left."""
    told = prediction.log_probabilities or {}
    left = np.sort([nats for label, nats in told.items() if label not in gone])[::-1]
    if len(left) < 2:
        return {}
    mass = float(np.logaddexp.reduce(left))
    scores = {ScopeScorer.PROBABILITY: float(left[0]) - mass, ScopeScorer.MARGIN: float(left[0] - left[1])}
    energy = prediction.scope.get(ScopeScorer.ENERGY)
    return scores | ({ScopeScorer.ENERGY: energy + mass} if energy is not None and math.isfinite(mass) else {})
