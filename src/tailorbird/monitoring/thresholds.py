"""Measurements of production, and the thresholds that they are compared with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Self

from pydantic import Field, model_validator

from tailorbird.domain.feedback import Severity, Signal, SignalName
from tailorbird.domain.value import Digest, Name, Value


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


class MeasurementSubject(Value):
    """Subject of a check: a release in traffic, or (``release`` None) the data of an objective; ``at`` is when."""

    tenant: Name
    objective: Name
    release: Digest | None = None
    at: datetime

    def signals(self, readings: Iterable[Measurement]) -> tuple[Signal, ...]:
        """Measurements as signals of this subject."""
        return tuple(
            Signal(
                tenant=self.tenant,
                objective=self.objective,
                release=self.release,
                name=reading.name,
                value=reading.value,
                bound=reading.bound,
                p_value=reading.p_value,
                n=reading.n,
                severity=reading.severity,
                text=reading.text,
                at=self.at,
            )
            for reading in readings
        )


def too_few(what: str, n: int, needed: int) -> str:
    """The sentence of a reading that rests on too little, such as ``Requests that failed: too few to tell (12 of 100).``"""
    return f"{what}: too few to tell ({n} of {needed})."


def percent(share: float) -> str:
    """A share for people: ``12 %``, ``1.5 %``."""
    return f"{100 * share:.1f}".removesuffix(".0") + " %"


class ThresholdGuard(Value):
    """Warning and alarm thresholds of one measurement."""

    warning: Annotated[float, Field(ge=0)]
    alarm: Annotated[float, Field(ge=0)]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.alarm < self.warning:
            raise ValueError(f"an alarm at {self.alarm:g} would come before its warning at {self.warning:g}")
        return self

    def severity(self, value: float) -> Severity:
        """Severity of ``value``; a value on the threshold has reached it."""
        if value >= self.alarm:
            return Severity.ALARM
        return Severity.WARNING if value >= self.warning else Severity.INFO

    def scaled(self, by: float) -> ThresholdGuard:
        """The same guard with its thresholds multiplied by ``by``."""
        return ThresholdGuard(warning=self.warning * by, alarm=self.alarm * by)

    def raised(self, by: float) -> ThresholdGuard:
        """The same guard with its thresholds raised by ``by``."""
        return ThresholdGuard(warning=self.warning + by, alarm=self.alarm + by)


class Thresholds(Value):
    """All thresholds of the checks.

    - ``alpha``: how often a look may find drift in a release where there is none. At one look a day, 0.01 is a false alarm every hundred
      days at most; the floors below make it rarer still.
    - ``text``: how often live and training messages are told apart (0.5 is chance). On banking77, held-out messages give 0.52, messages
      of half the topics 0.58, of 10 topics in 77 0.71, and one foreign message in five 0.57 (docs/monitoring.md).
    - ``length``: the largest gap of the two distributions of length (Kolmogorov–Smirnov's D).
    - ``classes``: population stability index; below 0.1 stable, above 0.25 another population (Siddiqi 2006).
    - ``out_of_scope``: the share of messages refused as out of scope, beyond the share that is refused of those that a label fits.
    - ``error_rate``, ``refusal_rate``: shares of requests. Callers' mistakes and quotas are refusals, so some are normal.
    - ``fallback_rate``: the share of requests that the release before answered in place of a hosted model.
    - ``latency``, ``cost``: multiples of the objective's limit; ``growth`` times what was measured stands in where there is no limit.
    - ``age_days``: days since the newest source changed; ``volume_drop``: the share of rows gone since the snapshot;
      ``quarantine``: the share of rows set aside, beyond the share that the snapshot had.
    - ``min_messages``: fewer than 50 a side find nothing but an upheaval; ``min_requests``: of 100, five lie above the 95th percentile.
    """

    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.01
    text: ThresholdGuard = ThresholdGuard(warning=0.55, alarm=0.70)
    length: ThresholdGuard = ThresholdGuard(warning=0.10, alarm=0.30)
    classes: ThresholdGuard = ThresholdGuard(warning=0.10, alarm=0.25)
    out_of_scope: ThresholdGuard = ThresholdGuard(warning=0.10, alarm=0.25)
    error_rate: ThresholdGuard = ThresholdGuard(warning=0.02, alarm=0.10)
    refusal_rate: ThresholdGuard = ThresholdGuard(warning=0.05, alarm=0.25)
    fallback_rate: ThresholdGuard = ThresholdGuard(warning=0.02, alarm=0.10)
    latency: ThresholdGuard = ThresholdGuard(warning=1.0, alarm=2.0)
    cost: ThresholdGuard = ThresholdGuard(warning=1.0, alarm=2.0)
    growth: Annotated[float, Field(gt=1)] = 2.0
    age_days: ThresholdGuard = ThresholdGuard(warning=90.0, alarm=365.0)
    volume_drop: ThresholdGuard = ThresholdGuard(warning=0.20, alarm=0.50)
    quarantine: ThresholdGuard = ThresholdGuard(warning=0.05, alarm=0.20)
    min_messages: Annotated[int, Field(ge=20)] = 50
    min_requests: Annotated[int, Field(ge=20)] = 100
