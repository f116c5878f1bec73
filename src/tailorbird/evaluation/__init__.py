"""Evaluation: what a candidate answers, what that measures, and how two candidates stand to each other.

In: rows, an engine with a loaded servable, predictions. Out: predictions, metrics with intervals, item results, paired comparisons. Must
not know: gates, targets, how a candidate was made.
"""

from tailorbird.evaluation.comparison import ComparisonRule, compare
from tailorbird.evaluation.measuring import measure
from tailorbird.evaluation.prediction import PredictionRequest, engine_predictions
from tailorbird.evaluation.spec import MeasureSpec

__all__ = ["ComparisonRule", "MeasureSpec", "PredictionRequest", "compare", "engine_predictions", "measure"]
