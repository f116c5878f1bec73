"""What people say of a release's answers: the KPIs as they are in life, beside what the sealed test said.

In: counts of feedback by kind, the objective's target. Out: readings. Must not know: who said it, of which answer.
"""

from __future__ import annotations

from collections.abc import Iterator

from tailorbird.domain.feedback import FeedbackKind, Marks
from tailorbird.domain.signal import Severity
from tailorbird.foundations.statistics import wilson
from tailorbird.monitoring.bounds import Bounds
from tailorbird.monitoring.reading import Reading, percent, too_few

#: So far below the target the reading is an alarm.
_FAR_BELOW = 0.1


def feedback_readings(marks: tuple[Marks, ...], target: float | None, bounds: Bounds) -> Iterator[Reading]:
    """Accuracy by people's labels, and how content they are on a scale from 0 to 1. Nothing where nobody said anything."""
    labels = next((one for one in marks if one.kind is FeedbackKind.LABEL), None)
    if labels is not None and labels.n:
        yield _accuracy(labels, target, bounds)
    others = [one for one in marks if one.kind is not FeedbackKind.LABEL]
    n = sum(one.n for one in others)
    if n:
        value = sum(one.n * one.mean for one in others) / n
        kinds = ", ".join(f"{one.n} by {one.kind.value}" for one in others)
        yield Reading("feedback.score", value, n, f"On a scale from 0 to 1 people give the answers {value:.2f} ({kinds}).")


def _accuracy(labels: Marks, target: float | None, bounds: Bounds) -> Reading:
    """Urgent only when even the upper end of the interval lies below the target. Labels of referred answers are the hard ones."""
    name, n = "feedback.accuracy", labels.n
    if n < bounds.min_messages:
        return Reading(name, labels.mean, n, too_few("Answers that people found right", n, bounds.min_messages), bound=target)
    _, high = wilson(round(labels.mean * n), n, 1 - 2 * bounds.alpha)
    severity = Severity.INFO
    if target is not None and high < target:
        severity = Severity.ALARM if high < target - _FAR_BELOW else Severity.WARNING
    held = f"the target is {percent(target)}" if target is not None else "there is no target"
    return Reading(name, labels.mean, n, f"People found {percent(labels.mean)} of {n} answers right; {held}.", severity, target)
