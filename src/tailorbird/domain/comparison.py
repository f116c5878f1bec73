"""Two candidates beside each other, from whichever runs."""

from __future__ import annotations

from pydantic import Field

from tailorbird.domain.evidence import Comparison, Metric, Standing
from tailorbird.domain.value import Digest, Value


class Side(Value):
    """One of the two: whose it is, on what it was measured, what it cost to make; memory as in ``Climb``."""

    name: str
    run: str
    candidate: Digest
    split: str
    n: int
    metrics: dict[str, Metric]
    trained_parameters: int
    seconds: float
    peak_memory_gb: float
    money: float
    process_memory_gb: float = Field(default=0.0, exclude_if=lambda value: not value)


class Unpaired(Value):
    """A difference of two shares that were not measured on the same items."""

    metric: str
    difference: float
    low: float
    high: float
    standing: Standing
    items_needed: int | None


class CandidateComparison(Value):
    """``one`` minus ``other``. ``compared_on`` is the metric by which the first one's objective compares. ``paired`` holds a comparison a
    metric where both answered the same items; ``unpaired`` the rest of what can be said where they did not. ``remarks`` are what a reader
    must know before believing either."""

    one: Side
    other: Side
    compared_on: str = ""
    paired: tuple[Comparison, ...] = ()
    unpaired: tuple[Unpaired, ...] = ()
    remarks: tuple[str, ...] = ()
