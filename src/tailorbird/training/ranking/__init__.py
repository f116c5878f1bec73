"""Encoders tuned for questions: the rungs of ``kind: rank`` that train.

In: a ranking job. Out: an adapter or weights, and a report. Must not know: who asked, how results are served.
"""

from tailorbird.training.ranking.encoder_tuning import tune

__all__ = ["tune"]
