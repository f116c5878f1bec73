"""A reading before it has a subject: what was measured, what it is held against, what a person reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from tailorbird.domain.signal import Severity, Signal
from tailorbird.domain.value import Digest, Name, Value


@dataclass(frozen=True)
class Measurement:
    """The part of a ``Signal`` that does not depend on what was watched."""

    name: str
    value: float
    n: int
    text: str
    severity: Severity = Severity.INFO
    bound: float | None = None
    p_value: float | None = None


class MeasurementSubject(Value):
    """What is watched: a release in traffic, or (``release`` None) the data of an objective; ``at`` is when."""

    tenant: Name
    objective: Name
    release: Digest | None = None
    at: datetime

    def signals(self, readings: Iterable[Measurement]) -> tuple[Signal, ...]:
        """The readings, as signals of this subject."""
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
