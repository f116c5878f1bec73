"""Measurements of production, and the thresholds that they are compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from tailorbird.domain.feedback import Severity, SignalName


@dataclass(frozen=True)
class Measurement:
    """Part of a ``Signal`` that does not depend on its subject."""

    name: SignalName
    value: float
    n: int
    text: str
    severity: Severity = Severity.INFO
    bound: float | None = None
    p_value: float | None = None


def too_few(what: str, n: int, needed: int) -> str:
    """The sentence of a reading that rests on too little, such as ``Requests that failed: too few to tell (12 of 100).``"""
    return f"{what}: too few to tell ({n} of {needed})."


def percent(share: float) -> str:
    """A share for people: ``12 %``, ``1.5 %``."""
    return f"{100 * share:.1f}".removesuffix(".0") + " %"


class ThresholdGuard(NamedTuple):
    """Warning and alarm thresholds of one measurement."""

    warning: float
    alarm: float

    def severity(self, value: float) -> Severity:
        """Severity of ``value``; a value on the threshold has reached it."""
        if value >= self.alarm:
            return Severity.ALARM
        return Severity.WARNING if value >= self.warning else Severity.INFO

    def raised(self, by: float) -> ThresholdGuard:
        """The same guard with its thresholds raised by ``by``."""
        return ThresholdGuard(self.warning + by, self.alarm + by)


#: How often a look may find drift in a release where there is none. At one look a day, 0.01 is a false alarm every hundred days at most;
#: the floors below make it rarer still.
ALPHA = 0.01
#: Fewer messages a side find nothing but an upheaval; of so many requests, five lie above the 95th percentile.
MIN_MESSAGES, MIN_REQUESTS = 50, 100
#: How often live and training messages are told apart (0.5 is chance). On banking77, held-out messages give 0.52, messages of half the
#: topics 0.58, of 10 topics in 77 0.71, and one foreign message in five 0.57 (docs/design/releases.md).
TEXT = ThresholdGuard(0.55, 0.70)
#: The largest gap of the two distributions of length (Kolmogorov–Smirnov's D).
LENGTH = ThresholdGuard(0.10, 0.30)
#: Population stability index; below 0.1 stable, above 0.25 another population (Siddiqi 2006).
CLASSES = ThresholdGuard(0.10, 0.25)
#: The share of messages refused as out of scope, beyond the share that is refused of those that a label fits.
OUT_OF_SCOPE = ThresholdGuard(0.10, 0.25)
#: Shares of requests. Callers' mistakes and quotas are refusals, so some are normal; a fallback answered in place of a hosted model.
ERROR_RATE, REFUSAL_RATE, FALLBACK_RATE = ThresholdGuard(0.02, 0.10), ThresholdGuard(0.05, 0.25), ThresholdGuard(0.02, 0.10)
#: Latency and cost as multiples of the objective's limit; so many times what was measured stands in where there is no limit.
PROMISED, GROWTH = ThresholdGuard(1.0, 2.0), 2.0
