"""Timings of an engine fitted to a short measurement: steps by least squares, what a request costs by simulating the measured round."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil
from statistics import median

import numpy as np
from scipy.optimize import nnls

from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.capacity import EngineTimings, ServingMeasurement, TimedStep
from tailorbird.planning.flops import parameters_per_rank
from tailorbird.planning.replica_simulation import RANK, ReplicaBudget, ReplicaSimulation
from tailorbird.planning.request_trace import TracedRequest

#: Tokens of a step between which its time is a line.
_POINTS = (1, 4, 16, 32, 64, 256, 1024)
#: No pass takes less (s), also where the fit lays all of a short step on its rows.
_LEAST_STEP = 1e-6
#: The longest that a request that begins is thought to keep the engine (s), and halvings of that.
_MOST_REQUEST, _HALVINGS = 0.2, 18


def fit_timings(measured: ServingMeasurement, adapter_mb: float, kv_mb: float) -> EngineTimings:
    """``adapter_mb`` MiB is an adapter of rank 16; ``kv_mb`` is what the measured engine has for keys and values."""
    reached = max(step.tokens for step in measured.steps)
    points = [point for place, point in enumerate(_POINTS) if place == 0 or _POINTS[place - 1] < reached]
    features = np.array([_features(step, points) for step in measured.steps])
    seconds = np.array([step.seconds for step in measured.steps])
    # Of relative errors: short steps are most of what a replica does.
    found, _ = nnls(features / seconds[:, None], np.ones(len(seconds)))
    error = float(np.median(np.abs(features @ found / seconds - 1)))
    passes = found[: len(points)]
    rises = np.maximum(_LEAST_STEP, np.concatenate([[passes[0]], passes[0] + np.cumsum(passes[1:] * np.diff(points))]))
    row, adapter, context, delay = (float(value) for value in found[len(points) :])
    timings = EngineTimings(
        pass_seconds=tuple((point, float(value)) for point, value in zip(points, rises, strict=True)),
        row_seconds=row,
        adapter_seconds=adapter,
        context_seconds=context,
        delay_seconds=delay,
        load_seconds=measured.load_seconds,
        busy_load_seconds=measured.busy_load_seconds,
        load_slowdown=measured.load_slowdown,
        base_mb=max(1.0, measured.held_mb - measured.resident * adapter_mb),
        adapter_mb=adapter_mb,
        kv_tokens_per_mb=measured.kv_tokens / kv_mb,
        error=error,
    )
    return _with_requests(timings, measured)


def adapter_mebibytes(base: BaseModelRef, precision: str) -> float:
    """MiB of an adapter of rank 16 on all linear layers in the engine's memory, in whole large pages of 2 MiB: 16 bits, or 32 in fp32."""
    size = RANK * parameters_per_rank(base, tuple(base.linear_shapes)) * (4 if precision == "fp32" else 2)
    return 2.0 * ceil(size / 2**21)


def _features(step: TimedStep, points: Sequence[int]) -> list[float]:
    """A pass by its tokens as a constant and a slope between each two points, and the parts that are added."""
    slopes = [min(max(step.tokens, low), high) - low for low, high in pairwise(points)]
    return [1.0, *slopes, step.rows, step.adapters, step.context, float(step.first)]


def _with_requests(timings: EngineTimings, measured: ServingMeasurement) -> EngineTimings:
    """With what a request that begins costs beside its tokens, so that the round takes as long as it did; where it took less than its
    tokens, all steps are shortened."""
    shortest = _round_seconds(timings, measured)
    if shortest >= measured.seconds:
        return _scaled(timings, measured.seconds / shortest)
    low, high = 0.0, _MOST_REQUEST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        longer = _round_seconds(timings.model_copy(update={"request_seconds": middle}), measured) > measured.seconds
        low, high = (low, middle) if longer else (middle, high)
    return timings.model_copy(update={"request_seconds": low})


def _scaled(timings: EngineTimings, share: float) -> EngineTimings:
    parts = {name: getattr(timings, name) * share for name in ("row_seconds", "adapter_seconds", "context_seconds")}
    passes = tuple((tokens, seconds * share) for tokens, seconds in timings.pass_seconds)
    return timings.model_copy(update=parts | {"pass_seconds": passes})


def _round_seconds(timings: EngineTimings, measured: ServingMeasurement) -> float:
    """How long the measured round takes in the simulation, where all adapters are in memory and prompts as much cached as they were."""
    ranks = (RANK,) * (1 + max(one.adapter for one in measured.round))
    budget = ReplicaBudget(timings.base_mb + timings.adapter_mb * len(ranks) + 1, measured.kv_tokens / timings.kv_tokens_per_mb)
    cached = int(median(one.cached for one in measured.round))
    requests = [TracedRequest(one.arrival, one.adapter, 0, one.prompt, min(cached, one.prompt - 1), one.answer) for one in measured.round]
    replica = ReplicaSimulation(timings, ranks, budget)
    replica.remember(range(len(ranks)))
    return max((one.ended or 0.0) for one in replica.run(requests))
