"""Timings of an engine and traffic, as numbers of a small model on two cores."""

from __future__ import annotations

from typing import Any

from tailorbird.domain.capacity import EngineTimings
from tailorbird.domain.serving_traffic import ServingTraffic

TIMINGS = EngineTimings(
    pass_seconds=((1, 0.018), (16, 0.03), (64, 0.08), (256, 0.28), (1024, 1.2)),
    row_seconds=0.0005,
    adapter_seconds=0.0008,
    context_seconds=0.00000005,
    request_seconds=0.002,
    delay_seconds=0.005,
    load_seconds=0.08,
    busy_load_seconds=0.12,
    load_slowdown=1.5,
    base_mb=331,
    adapter_mb=10,
    kv_tokens_per_mb=45,
)
FILE: dict[str, Any] = {
    "base_model": "small",
    "adapters": {"count": 60},
    "arrivals": {"per_second": 4},
    "prompt": {"mean": 100, "spread": 0.5, "shared": 32, "most": 500},
    "answer": {"mean": 24, "spread": 0.4, "most": 100},
    "engine": {"memory_mb": 1536},
    "replicas": 1,
}


def traffic(**changes: Any) -> ServingTraffic:
    """The traffic of ``FILE`` with other keys."""
    return ServingTraffic.model_validate(FILE | changes)
