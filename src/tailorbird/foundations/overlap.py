"""How much of one text stands in another.

In: two texts. Out: a share. Must not know: items, metrics, models.
"""

from __future__ import annotations

from collections import Counter

from tailorbird.foundations.text import normalise


def token_f1(answer: str, target: str) -> float:
    """F1 of the words that two texts share, counted as bags after ``normalise`` (Rajpurkar 2016, SQuAD); 1 when both are empty."""
    given, wanted = Counter(normalise(answer).split()), Counter(normalise(target).split())
    if not given and not wanted:
        return 1.0
    return 2 * (given & wanted).total() / (given.total() + wanted.total())
