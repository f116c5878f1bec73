"""Which way metrics point, and how far they go.

In: names of metrics. Out: sets that the catalogue of KPIs, the gate and comparisons share. Must not know: how a metric is computed.
"""

from __future__ import annotations

#: Metrics of which less is better: a target is an upper bound.
LOWER_IS_BETTER = frozenset({"log_loss", "brier", "ece", "selective_risk", "refusal_rate"})

#: Metrics that may exceed 1; all others are shares.
UNBOUNDED = frozenset(
    {"log_loss", "brier", "latency_p95_ms", "cost_per_1k_requests", "tokens_per_request", "answer_tokens", "memorisation"}
)


#: Metrics that are differences of shares, between -1 and 1.
DIFFERENCES = frozenset({"retention", "against_incumbent", "shift"})


def lower_is_better(metric: str) -> bool:
    """True when less of ``metric`` is better; a label in brackets does not matter."""
    return metric.partition("[")[0] in LOWER_IS_BETTER
