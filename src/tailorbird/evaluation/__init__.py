"""Evaluation: predictions of a candidate, metrics with intervals, and comparison of two candidates.

    predictions → metrics (classification | multi_label | generation | ranking · calibration · serving_limits) → comparison
    breakdown · degenerate_answers · retention · memorisation

In: rows, an engine with a loaded servable, predictions. Out: predictions, metrics with intervals, item results, paired comparisons. Must
not know: gates, targets, how a candidate was made.
"""

from tailorbird.evaluation.breakdown import break_down
from tailorbird.evaluation.calibration import referral_threshold
from tailorbird.evaluation.comparison import ComparisonRule, UnpairedComparison, compare, compare_shares, differing_items, shift_drop
from tailorbird.evaluation.measure_spec import MeasureSpec
from tailorbird.evaluation.metrics import degenerate_answer_remarks, item_results, measure, metrics_of, named_metrics, relevance_of
from tailorbird.evaluation.predictions import PredictionRequest, engine_predictions, ranked_predictions
from tailorbird.evaluation.retention import (
    measure_memorisation,
    measure_retention,
    memorisation_metric,
    probe_names,
    retention_metric,
    why_invalid,
)
from tailorbird.evaluation.scope import scope_metrics, scope_points, trial_by_columns
from tailorbird.evaluation.serving_limits import ServingLimits, Timing, fewest_requests, measure_until_settled, timings_of

__all__ = [
    "ComparisonRule",
    "MeasureSpec",
    "PredictionRequest",
    "ServingLimits",
    "Timing",
    "UnpairedComparison",
    "break_down",
    "compare",
    "compare_shares",
    "degenerate_answer_remarks",
    "differing_items",
    "engine_predictions",
    "fewest_requests",
    "item_results",
    "measure",
    "measure_memorisation",
    "measure_retention",
    "measure_until_settled",
    "memorisation_metric",
    "metrics_of",
    "named_metrics",
    "probe_names",
    "ranked_predictions",
    "referral_threshold",
    "relevance_of",
    "retention_metric",
    "scope_metrics",
    "scope_points",
    "shift_drop",
    "timings_of",
    "trial_by_columns",
    "why_invalid",
]
