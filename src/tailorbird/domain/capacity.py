"""Capacity of serving: timings of an engine, and what its replicas are predicted to do under given traffic."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from typing import Annotated

from pydantic import Field, field_validator

from tailorbird.domain.plan import Reason
from tailorbird.domain.value import Value

_Seconds = Annotated[float, Field(ge=0, le=1e4)]


class EngineTimings(Value):
    """What an engine takes, as requests through its gateway see it. A step takes, added up: ``pass_seconds`` by its tokens (points of a
    line through (tokens, seconds), tokens ascending, seconds above 0 and never falling), ``row_seconds`` for each answer that gets a
    token, ``adapter_seconds`` for each adapter of rank 16 in it, ``context_seconds`` for each token that a token looks back at, and
    ``request_seconds`` for each request that begins in it.

    ``delay_seconds`` pass outside the engine. An adapter that is not in memory comes after ``load_seconds`` where nothing else is computed
    and ``busy_load_seconds`` where something is; meanwhile steps take ``load_slowdown`` times as long. Sizes in MiB: ``base_mb`` of the
    base's weights, ``adapter_mb`` of an adapter of rank 16; ``kv_tokens_per_mb`` tokens' keys and values fit into one.
    ``error`` is the median relative error of the fitted steps; empty ``machine``: stated, not measured. ``gateway`` is the host through
    which they were measured, ``processor`` the kind behind it, where it was on the machine that measured.
    """

    machine: str = ""
    gateway: str = Field(default="", exclude_if=lambda value: not value)
    processor: str = Field(default="", exclude_if=lambda value: not value)
    base_model: str = ""
    precision: str = "auto"
    adapters: str = Field(default="auto", exclude_if=lambda value: value == "auto")
    measured_at: datetime | None = None
    pass_seconds: Annotated[tuple[tuple[Annotated[int, Field(ge=1)], _Seconds], ...], Field(min_length=1, max_length=64)]
    row_seconds: _Seconds = 0.0
    adapter_seconds: _Seconds = 0.0
    context_seconds: _Seconds = 0.0
    request_seconds: _Seconds = 0.0
    delay_seconds: _Seconds = 0.0
    load_seconds: _Seconds
    busy_load_seconds: _Seconds
    load_slowdown: Annotated[float, Field(ge=1, le=100)] = 1.0
    base_mb: Annotated[float, Field(gt=0, le=1e9)]
    adapter_mb: Annotated[float, Field(ge=1e-3, le=1e9)]
    kv_tokens_per_mb: Annotated[float, Field(gt=0, le=1e9)]
    error: float = 0.0

    @field_validator("pass_seconds")
    @classmethod
    def _rising(cls, points: tuple[tuple[int, float], ...]) -> tuple[tuple[int, float], ...]:
        if any(seconds <= 0 for _, seconds in points):
            raise ValueError("every step takes some time: seconds must be above 0")
        if any(left[0] >= right[0] or left[1] > right[1] for left, right in pairwise(points)):
            raise ValueError("points must rise: tokens ascending, each once, and no fewer seconds for more tokens")
        return points


class CapacityReading(Value):
    """What ``replicas`` do with ``adapters`` under traffic, after it has become steady. Latency in milliseconds, to the last token and to
    the first; ``requests_per_second`` and ``tokens_per_second`` are answered; ``hit_rate`` is the share of requests whose adapter needed
    no load; ``load`` is what comes ÷ the most that could be answered; ``refused`` the share turned away since too many waited."""

    replicas: int
    adapters: int
    requests_per_second: float
    tokens_per_second: float
    hit_rate: float
    p50_ms: float
    p95_ms: float
    first_token_p95_ms: float
    load: float
    refused: float


class CapacityPlan(Value):
    """A reading for the traffic, and how far it is to the edges: ``cliff_adapters`` is the largest number of adapters that still answers as
    asked, ``cliff_per_second`` the largest rate (0: not even this one), both with these replicas; None where none was found.

    ``resident`` adapters fit beside the base in each replica's ``engine`` memory; ``memory_gb`` is for weights, keys and values of each.
    Money in ``currency``. ``holds`` tells whether p95 and rate are as asked. ``others`` are readings beside this one.
    """

    reading: CapacityReading
    holds: bool
    limit_ms: float
    resident: int
    memory_gb: float
    cost_per_month: float
    cost_per_1k: float
    currency: str
    cliff_adapters: int | None
    cliff_per_second: float | None
    others: tuple[CapacityReading, ...] = ()
    reasons: tuple[Reason, ...] = ()


class TimedStep(Value):
    """A step as a client saw it: ``tokens`` in it, ``rows`` that got a token, distinct ``adapters``, ``context`` (earlier tokens that its
    tokens look at, summed up), seconds. ``first``: from asking to the first token of a lone request."""

    tokens: float
    rows: float
    adapters: int
    context: float
    seconds: float
    first: bool = False


class TimedRequest(Value):
    """A request among others, as a trace has it, and the seconds from asking to its end."""

    arrival: float
    adapter: int
    prompt: int
    cached: int
    answer: int
    took: float


class ServingMeasurement(Value):
    """What a client measured of a gateway and its engine: ``steps``, requests of ``traffic`` that came nearly as fast as they could be
    answered, and loads of adapters. ``held_mb`` MiB of weights are in memory, those of ``resident`` releases with an
    adapter and the base; ``kv_tokens`` tokens' keys and values could be. ``notes`` are sentences on what could not be measured."""

    steps: tuple[TimedStep, ...]
    traffic: tuple[TimedRequest, ...]
    load_seconds: float
    busy_load_seconds: float
    load_slowdown: float
    held_mb: float
    resident: int
    kv_tokens: int
    notes: tuple[str, ...] = ()
