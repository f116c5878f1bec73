"""Latency and cost timed until limits are settled: how many requests, when again, and how often wrongly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tailorbird.domain.objective import TaskKind
from tailorbird.evaluation.measure_spec import MeasureSpec
from tailorbird.evaluation.serving_limits import ServingLimits, Timing, fewest_requests, measure_until_settled

SPEC = MeasureSpec(task=TaskKind.CLASSIFY, labels=("a", "b"), confidence=0.94, seed=1, price_per_hour=3.6)


class Machine:
    """Gives the times it is told, first to last, and remembers what it was asked."""

    def __init__(self, *times: float) -> None:
        self.left = [Timing(ms, ms) for ms in times]
        self.asked: list[tuple[int, bool]] = []

    def more(self, wanted: int, missed: bool) -> Sequence[Timing]:
        self.asked.append((wanted, missed))
        given, self.left = self.left[:wanted], self.left[wanted:]
        return given


def spread(n: int, low: float, high: float) -> list[float]:
    return list(np.linspace(low, high, n))


def within(ms: float) -> ServingLimits:
    return ServingLimits({"latency_p95_ms": ms})


def test_a_limit_that_the_items_prove_is_not_timed_further() -> None:
    machine = Machine()
    found = measure_until_settled([Timing(ms, ms) for ms in spread(80, 10, 20)], machine.more, within(100), SPEC)
    assert machine.asked == []
    assert found["latency_p95_ms"].high <= 20
    assert found["latency_p95_ms"].confidence == SPEC.confidence


def test_what_stays_open_is_timed_twice_as_often_until_it_is_proven() -> None:
    first = [Timing(ms, ms) for ms in [10.0] * 76 + [99.0] * 4]  # the bound lies among the slowest twentieth
    machine = Machine(*[10.0] * 400)
    found = measure_until_settled(first, machine.more, within(50), SPEC)
    assert machine.asked[0] == (80, False)
    assert found["latency_p95_ms"].high <= 50


def test_a_miss_is_timed_once_more_by_other_requests_which_take_its_place() -> None:
    busy, again = [Timing(90.0, 90.0)] * 80, fewest_requests(SPEC.confidence, 2)
    machine = Machine(*[10.0] * 400)
    found = measure_until_settled(busy, machine.more, within(50), SPEC)
    assert machine.asked == [(again, True)]
    assert (found["latency_p95_ms"].value, found["latency_p95_ms"].n) == (10.0, again)
    slow = Machine(*[90.0] * 400)
    found = measure_until_settled(busy, slow.more, within(50), SPEC)
    assert slow.asked == [(again, True)]  # once, and no more
    assert found["latency_p95_ms"].low > 50


@pytest.mark.parametrize(
    "confidence",
    [
        0.88,
    ],
)
def test_looking_again_lets_no_more_slow_candidates_pass_than_one_may(confidence: float) -> None:
    """The true 95th percentile lies on the bound: at most half of 1 - confidence may be called faster."""
    spec, random, passes = MeasureSpec(TaskKind.CLASSIFY, ("a", "b"), confidence, 1, 0.0), np.random.default_rng(7), 0
    runs = 1500
    for _ in range(runs):

        def more(wanted: int, missed: bool) -> list[Timing]:
            del missed
            return [Timing(float(ms), 0.0) for ms in random.random(wanted)]

        found = measure_until_settled(more(80, False), more, within(0.95), spec)
        passes += "latency_p95_ms" in found and found["latency_p95_ms"].high <= 0.95
    assert passes / runs <= (1 - confidence) / 2 + 0.02
