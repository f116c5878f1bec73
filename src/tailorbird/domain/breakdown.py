"""What lies behind a candidate's metrics: where it errs, how far its probabilities can be trusted, what leaving items to people buys."""

from __future__ import annotations

from tailorbird.domain.value import Digest, Value


class Confusion(Value):
    """How often ``target`` was answered with ``answer``, with a few of the items."""

    target: str
    answer: str
    count: int
    examples: tuple[Digest, ...]


class Slice(Value):
    """A part of the items, and the share of them that came out right, with its interval. ``segment`` is what the parts are cut by
    (``label``, ``source``, ``length``), ``name`` this part; ``worst`` are a few items that came out wrong."""

    segment: str
    name: str
    n: int
    value: float
    low: float
    high: float
    worst: tuple[Digest, ...] = ()


class Bin(Value):
    """Items of like probability: the mean of what the model said, and the share that was right."""

    n: int
    said: float
    right: float


class Referred(Value):
    """A point of the risk-coverage curve: with items below ``refer_below`` left to people, the share that is answered, and the share of
    wrong answers among them with its upper bound (None when nothing is answered)."""

    refer_below: float
    coverage: float
    risk: float | None
    risk_high: float | None


class Breakdown(Value):
    """What lies behind the metrics of one candidate on one split. ``slices`` are sorted by segment, the worst first."""

    confusions: tuple[Confusion, ...] = ()
    slices: tuple[Slice, ...] = ()
    reliability: tuple[Bin, ...] = ()
    referral: tuple[Referred, ...] = ()
