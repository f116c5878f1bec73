"""How far a reading may go before somebody is told."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from tailorbird.domain.signal import Severity
from tailorbird.domain.value import Value


class ThresholdGuard(Value):
    """A bound on a release in traffic: from ``warning`` on somebody should look, from ``alarm`` on soon."""

    warning: Annotated[float, Field(ge=0)]
    alarm: Annotated[float, Field(ge=0)]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.alarm < self.warning:
            raise ValueError(f"an alarm at {self.alarm:g} would come before its warning at {self.warning:g}")
        return self

    def severity(self, value: float) -> Severity:
        """How urgent ``value`` is; a value on the bound has reached it."""
        if value >= self.alarm:
            return Severity.ALARM
        return Severity.WARNING if value >= self.warning else Severity.INFO

    def scaled(self, by: float) -> ThresholdGuard:
        """The same guard on values ``by`` times as large."""
        return ThresholdGuard(warning=self.warning * by, alarm=self.alarm * by)

    def raised(self, by: float) -> ThresholdGuard:
        """The same guard on values that lie ``by`` higher."""
        return ThresholdGuard(warning=self.warning + by, alarm=self.alarm + by)


class Thresholds(Value):
    """Every bound of a watch.

    - ``alpha``: how often a look may find drift in a release where there is none. At one look a day, 0.01 is a false alarm every hundred
      days at most; the floors below make it rarer still.
    - ``text``: how often live and training messages are told apart (0.5 is chance). On banking77, held-out messages give 0.52, messages
      of half the topics 0.58, of 10 topics in 77 0.71, and one foreign message in five 0.57 (docs/monitoring.md).
    - ``length``: the largest gap of the two distributions of length (Kolmogorov–Smirnov's D).
    - ``classes``: population stability index; below 0.1 stable, above 0.25 another population (Siddiqi 2006).
    - ``error_rate``, ``refusal_rate``: shares of requests. Callers' mistakes and quotas are refusals, so some are normal.
    - ``latency``, ``cost``: multiples of the objective's limit; ``growth`` times what was measured stands in where there is no limit.
    - ``age_days``: days since the newest source changed; ``volume_drop``: the share of rows gone since the snapshot;
      ``quarantine``: the share of rows set aside, beyond the share that the snapshot had.
    - ``min_messages``: fewer than 50 a side find nothing but an upheaval; ``min_requests``: of 100, five lie above the 95th percentile.
    """

    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.01
    text: ThresholdGuard = ThresholdGuard(warning=0.55, alarm=0.70)
    length: ThresholdGuard = ThresholdGuard(warning=0.10, alarm=0.30)
    classes: ThresholdGuard = ThresholdGuard(warning=0.10, alarm=0.25)
    error_rate: ThresholdGuard = ThresholdGuard(warning=0.02, alarm=0.10)
    refusal_rate: ThresholdGuard = ThresholdGuard(warning=0.05, alarm=0.25)
    latency: ThresholdGuard = ThresholdGuard(warning=1.0, alarm=2.0)
    cost: ThresholdGuard = ThresholdGuard(warning=1.0, alarm=2.0)
    growth: Annotated[float, Field(gt=1)] = 2.0
    age_days: ThresholdGuard = ThresholdGuard(warning=90.0, alarm=365.0)
    volume_drop: ThresholdGuard = ThresholdGuard(warning=0.20, alarm=0.50)
    quarantine: ThresholdGuard = ThresholdGuard(warning=0.05, alarm=0.20)
    min_messages: Annotated[int, Field(ge=20)] = 50
    min_requests: Annotated[int, Field(ge=20)] = 100
