"""Evaluation: what a candidate answers, what that measures, and how two candidates stand to each other.

In: rows, an engine with a loaded servable, predictions. Out: predictions, metrics with intervals, item results, paired comparisons. Must
not know: gates, targets, how a candidate was made.
"""

from tailorbird.evaluation.abstention import calibrated
from tailorbird.evaluation.breakdown import break_down
from tailorbird.evaluation.comparison import ComparisonRule, UnpairedComparison, compare, compare_shares
from tailorbird.evaluation.measuring import measure, metrics_of, results
from tailorbird.evaluation.memorisation import measure_memorisation, memorisation_metric, why_invalid
from tailorbird.evaluation.prediction import PredictionRequest, engine_predictions
from tailorbird.evaluation.ranked import ranked_predictions
from tailorbird.evaluation.retention import measure_retention, retention_metric
from tailorbird.evaluation.shift import drop_between
from tailorbird.evaluation.spec import MeasureSpec

__all__ = [
    "ComparisonRule",
    "MeasureSpec",
    "PredictionRequest",
    "UnpairedComparison",
    "break_down",
    "calibrated",
    "compare",
    "compare_shares",
    "drop_between",
    "engine_predictions",
    "measure",
    "measure_memorisation",
    "measure_retention",
    "memorisation_metric",
    "metrics_of",
    "ranked_predictions",
    "results",
    "retention_metric",
    "why_invalid",
]
