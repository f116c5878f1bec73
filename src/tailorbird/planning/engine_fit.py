"""Timings of an engine fitted to a short measurement: steps by least squares, what a request costs by simulating measured traffic."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from math import ceil, inf, log
from statistics import fmean, median

import numpy as np
import scipy

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
_MOST_REQUEST, _HALVINGS = 0.2, 16
#: The least share of what steps were measured at.
_SHORTEST = 0.2


def fit_timings(measured: ServingMeasurement, adapter_mb: float, kv_mb: float) -> EngineTimings:
    """``adapter_mb`` MiB is an adapter of rank 16; ``kv_mb`` is what the measured engine has for keys and values."""
    reached = max(step.tokens for step in measured.steps)
    points = [point for place, point in enumerate(_POINTS) if place == 0 or _POINTS[place - 1] < reached]
    features = np.array([_features(step, points) for step in measured.steps])
    seconds = np.array([step.seconds for step in measured.steps])
    # Of relative errors: short steps are most of what a replica does.
    found, _ = scipy.optimize.nnls(features / seconds[:, None], np.ones(len(seconds)))
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


def adapter_mebibytes(base: BaseModelRef, precision: str, adapters: str = "auto") -> float:
    """MiB of an adapter of rank 16 on all linear layers in the engine's memory: in int8 with its scales, as the native pass holds it (68
    bytes for 64 inputs, 18 for 16), in 4 bits (36 and 10) where ``adapters`` is ``int4``, or 32 bits in fp32."""
    if precision == "fp32":
        return 4 * RANK * parameters_per_rank(base, tuple(base.linear_shapes)) / 2**20
    down, up = (36, 10) if adapters == "int4" else (68, 18)
    return sum(group.count * (RANK * ceil(group.inputs / 64) * down + group.outputs * up) for group in base.linear_groups) / 2**20


def _features(step: TimedStep, points: Sequence[int]) -> list[float]:
    """A pass by its tokens as a constant and a slope between each two points, and the parts that are added."""
    slopes = [min(max(step.tokens, low), high) - low for low, high in pairwise(points)]
    return [1.0, *slopes, step.rows, step.adapters, step.context, float(step.first)]


def _with_requests(timings: EngineTimings, measured: ServingMeasurement) -> EngineTimings:
    """With what a request that begins costs beside its tokens, so that measured traffic waits as long as it did; where it waited less than
    its tokens make it, all steps are shortened. Near the most that an engine does small costs make long waits, so this tells them."""
    if not measured.traffic:
        return timings
    waited = _mean_log(one.took for one in measured.traffic)
    if _simulated_waits(timings, measured) > waited:
        return _between(lambda share: _scaled(timings, share), (_SHORTEST, 1.0), waited, measured)
    return _between(lambda seconds: timings.model_copy(update={"request_seconds": seconds}), (0.0, _MOST_REQUEST), waited, measured)


def _between(of: Callable[[float], EngineTimings], ends: tuple[float, float], waited: float, measured: ServingMeasurement) -> EngineTimings:
    """Timings ``of`` a number between ``ends`` by which the measured traffic waits as it did; they grow with it."""
    low, high = ends
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if _simulated_waits(of(middle), measured) > waited else (middle, high)
    return of(low)


def _scaled(timings: EngineTimings, share: float) -> EngineTimings:
    parts = {name: getattr(timings, name) * share for name in ("row_seconds", "adapter_seconds", "context_seconds")}
    passes = tuple((tokens, max(_LEAST_STEP, seconds * share)) for tokens, seconds in timings.pass_seconds)
    return timings.model_copy(update=parts | {"pass_seconds": passes})


def _mean_log(seconds: Iterable[float]) -> float:
    """The mean of logarithms: one long pause of the machine does not decide it."""
    return fmean(log(max(_LEAST_STEP, each)) for each in seconds)


def _simulated_waits(timings: EngineTimings, measured: ServingMeasurement) -> float:
    """The same of measured traffic in the simulation, where all adapters are in memory and prompts as much cached as they were."""
    ranks = (RANK,) * (1 + max(one.adapter for one in measured.traffic))
    budget = ReplicaBudget(timings.base_mb + timings.adapter_mb * len(ranks) + 1, measured.kv_tokens / timings.kv_tokens_per_mb)
    cached = int(median(one.cached for one in measured.traffic))
    requests = [TracedRequest(one.arrival, one.adapter, 0, one.prompt, min(cached, one.prompt - 1), one.answer) for one in measured.traffic]
    replica = ReplicaSimulation(timings, ranks, budget)
    replica.remember(range(len(ranks)))
    return _mean_log((one.ended or inf) - one.request.arrival for one in replica.run(requests))
