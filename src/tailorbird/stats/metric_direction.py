"""Direction, range, unit and default margin of metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

#: Metrics of which less is better: a target is an upper bound.
LOWER_IS_BETTER = frozenset({"log_loss", "brier", "ece", "selective_risk", "refusal_rate", "known_refused", "out_of_scope_answered"})

#: Metrics of requests out of scope: they rest on other rows than answers do, are judged, and no two candidates are compared in them.
SCOPE_METRICS = frozenset({"known_refused", "out_of_scope_answered", "out_of_scope_auroc"})

#: Metrics that may exceed 1; all others are shares.
UNBOUNDED = frozenset(
    {"log_loss", "brier", "latency_p95_ms", "cost_per_1k_requests", "tokens_per_request", "answer_tokens", "memorisation"}
)


#: Metrics that are differences, and so may be negative.
DIFFERENCES = frozenset({"retention", "against_incumbent", "shift"})


class Pairing(StrEnum):
    """How two candidates are compared in a metric.

    ``ITEMS``: every item has a score, and the scores' differences are averaged. ``LABEL``: the same, over the items that bear the label.
    ``WHOLE``: the metric is of all items together, and the difference is resampled.
    """

    ITEMS = "items"
    LABEL = "label"
    WHOLE = "whole"


@dataclass(frozen=True)
class MetricDirection:
    """A metric in which candidates can be compared.

    ``margin`` is the default margin, ``unit`` the unit of both. An item's score moves within a range of width ``span``; where it has no
    upper end, ``span`` is what an unseen item is assumed to differ by at most. ``highest`` is the largest difference there can be.
    """

    pairing: Pairing = Pairing.ITEMS
    unit: str = "share"
    span: float = 1.0
    margin: float = 0.02
    highest: float = 1.0

    @property
    def bound(self) -> float | None:
        """The largest difference of an item's scores; None where there is no end."""
        return self.span if self.span == self.highest else None


_SHARE, _LABEL, _WHOLE = MetricDirection(), MetricDirection(Pairing.LABEL), MetricDirection(Pairing.WHOLE)

#: A metric's name, without its label, to how it is compared.
MEASURES: Mapping[str, MetricDirection] = {
    "accuracy": _SHARE,
    "balanced_accuracy": _WHOLE,
    "macro_f1": _WHOLE,
    "micro_f1": _WHOLE,
    "f1": _WHOLE,
    "precision": _WHOLE,
    "recall": _LABEL,
    "log_loss": MetricDirection(unit="nats", margin=0.05, highest=100.0),
    "brier": MetricDirection(unit="squared distance", span=2.0, margin=0.04, highest=2.0),
    "ece": _WHOLE,
    "ordinal_score": _SHARE,
    "within_one": _SHARE,
    "coverage": _SHARE,
    "selective_risk": _WHOLE,
    "exact_match": _SHARE,
    "token_f1": _SHARE,
    "rouge_l": _SHARE,
    "chrf": _SHARE,
    "field_score": _SHARE,
    "format_valid": _SHARE,
    "refusal_rate": _SHARE,
    "groundedness": _SHARE,
    "referral_recall": _SHARE,
    "referral_precision": _WHOLE,
    "tool_call_accuracy": _SHARE,
    "ndcg@10": _SHARE,
    "mrr@10": _SHARE,
    "recall@10": _SHARE,
    "recall@100": _SHARE,
}


def base_of(metric: str) -> str:
    """A metric's name without its label."""
    return metric.partition("[")[0]


def label_of(metric: str) -> str | None:
    """The label that a metric is of; None where it is of all."""
    base, bracket, rest = metric.partition("[")
    return rest[:-1].strip() if bracket and base and rest.endswith("]") else None


def first_compared(metrics: Iterable[str]) -> str:
    """The first of ``metrics`` in which candidates are compared; accuracy, where there is none."""
    return next((metric for metric in metrics if base_of(metric) not in SCOPE_METRICS), "accuracy")


def measure_of(metric: str) -> MetricDirection:
    """How ``metric`` is compared. Raises KeyError for what no two candidates are compared in."""
    return MEASURES[base_of(metric)]


def lower_is_better(metric: str) -> bool:
    """True when less of ``metric`` is better; a label in brackets does not matter."""
    return base_of(metric) in LOWER_IS_BETTER


def margin_in(margin: float | Mapping[str, float], metric: str, stated_in: str) -> float:
    """The margin of ``metric``: what a mapping says of it (with its label, or of all labels), a number that is stated in the same unit, and
    the default of the metric otherwise. A number is stated in the unit of the metric ``stated_in``."""
    measure = measure_of(metric)
    if isinstance(margin, Mapping):
        return margin.get(metric, margin.get(base_of(metric), measure.margin))
    return margin if measure.unit == measure_of(stated_in).unit else measure.margin
