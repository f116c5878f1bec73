"""Evaluation: what a candidate answers, what that measures, and how two candidates stand to each other.

In: rows, an engine with a loaded servable, predictions. Out: predictions, metrics with intervals, item results, paired comparisons. Must
not know: gates, targets, how a candidate was made.
"""

from tailorbird.evaluation.abstention import calibrated
from tailorbird.evaluation.breakdown import break_down
from tailorbird.evaluation.comparison import ComparisonRule, UnpairedComparison, compare, compare_shares, differing
from tailorbird.evaluation.degenerate_answers import remarks
from tailorbird.evaluation.measure_spec import MeasureSpec
from tailorbird.evaluation.memorisation import measure_memorisation, memorisation_metric, why_invalid
from tailorbird.evaluation.metrics import measure, metrics_of, results, some_metrics
from tailorbird.evaluation.predictions import PredictionRequest, engine_predictions, ranked_predictions
from tailorbird.evaluation.ranking import relevance_of
from tailorbird.evaluation.retention import measure_retention, probe_names, retention_metric
from tailorbird.evaluation.serving_limits import ServingLimits, Timing, fewest_requests, settled, timings_of
from tailorbird.evaluation.shift import drop_between

__all__ = [
    "ComparisonRule",
    "MeasureSpec",
    "PredictionRequest",
    "ServingLimits",
    "Timing",
    "UnpairedComparison",
    "break_down",
    "calibrated",
    "compare",
    "compare_shares",
    "differing",
    "drop_between",
    "engine_predictions",
    "fewest_requests",
    "measure",
    "measure_memorisation",
    "measure_retention",
    "memorisation_metric",
    "metrics_of",
    "probe_names",
    "ranked_predictions",
    "relevance_of",
    "remarks",
    "results",
    "retention_metric",
    "settled",
    "some_metrics",
    "timings_of",
    "why_invalid",
]
