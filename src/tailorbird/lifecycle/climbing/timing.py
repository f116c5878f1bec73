"""Latency and cost of a candidate, timed until the objective's limits on them are settled.

In: a stage, a candidate's answers to a split, a way to ask it more. Out: the metrics that the limits are judged by. Must not know: engines,
verdicts.

Requests need no labels: beyond the items, texts of train (and of dev, for the sealed test) are asked, each once, since an engine keeps what
it has read and a text asked again would be answered faster than a new one. What all requests share, the instruction and its
demonstrations, is kept by the engine as it is in service.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from tailorbird import evaluation
from tailorbird.domain.dataset import Row, Split
from tailorbird.domain.evidence import Metric, Prediction
from tailorbird.domain.objective import Limits
from tailorbird.lifecycle.climbing.measuring import spec_of
from tailorbird.lifecycle.steps.stage import Stage

#: Asks a candidate rows as requests.
Ask = Callable[[tuple[Row, ...]], list[Prediction]]

#: Further requests, and seconds of them, at most: an open limit is left open then.
MOST_REQUESTS, MOST_SECONDS = 640, 300.0


def serving_limits(limits: Limits) -> dict[str, float]:
    """The limits on what answering takes, by the names of their metrics."""
    asked = (("latency_p95_ms", limits.latency_p95_ms), ("cost_per_1k_requests", limits.cost_per_1k_requests))
    return {name: limit.max for name, limit in asked if limit is not None}


def served(stage: Stage, split: Split, look: int, predictions: list[Prediction], ask: Ask) -> dict[str, Metric]:
    """What answering takes, where the objective limits it; empty where it does not."""
    bounds = serving_limits(stage.objective.limits)
    if not bounds:
        return {}
    further = _Further(stage, split, ask)
    first = evaluation.timings_of(predictions)
    return evaluation.settled(first, further.timed, evaluation.ServingLimits(bounds), spec_of(stage, look))


class _Further:
    """Texts that were not asked yet, and the seconds that are left to ask them."""

    def __init__(self, stage: Stage, split: Split, ask: Ask) -> None:
        limit = stage.objective.limits.latency_p95_ms
        self._stage, self._ask = stage, ask
        self._at_once = limit.at_concurrency if limit else 1
        splits = (Split.TRAIN, Split.DEV) if split is Split.TEST else (Split.TRAIN,)
        self._rows = [row for each in splits for row in stage.rows(each)][:MOST_REQUESTS]
        self._left = MOST_SECONDS

    def timed(self, wanted: int, missed: bool) -> list[evaluation.Timing]:
        """Up to ``wanted`` further requests; fewer where texts or seconds run out."""
        rows, self._rows = self._rows[:wanted], self._rows[wanted:]
        if rows:
            self._stage.progress.tell(f"{self._why(missed)}: timing {len(rows)} more requests, of texts that were not asked yet")
        found: list[evaluation.Timing] = []
        for start in range(0, len(rows), self._at_once):
            if self._left <= 0:
                break
            started = time.monotonic()
            found += evaluation.timings_of(self._ask(tuple(rows[start : start + self._at_once])))
            self._left -= time.monotonic() - started
            self._stage.progress.count(len(found), len(rows))
        return found

    def _why(self, missed: bool) -> str:
        load, cores = os.getloadavg()[0], os.cpu_count() or 1
        busy = f" (load {load:.1f} on {cores} cores)"
        return f"a limit on what answering takes is missed{busy}" if missed else "a limit on what answering takes is open"
