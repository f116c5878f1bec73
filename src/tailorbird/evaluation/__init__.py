"""Evaluation: predictions of a candidate, metrics with intervals, and comparison of two candidates.

    predictions → metrics (classification | multi_label | generation | ranking · calibration · serving_limits) → comparison
    breakdown · degenerate_answers · retention · memorisation

In: rows, an engine with a loaded servable, predictions. Out: predictions, metrics with intervals, item results, paired comparisons. Must
not know: gates, targets, how a candidate was made.
"""
