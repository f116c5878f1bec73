"""Service measurements of one release: failures, refusals, latency, cost, and KPIs from feedback."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tailorbird.domain.deployment import Traffic
from tailorbird.domain.feedback import FeedbackKind, Marks, Severity, SignalName
from tailorbird.domain.rollout import LiveFinding
from tailorbird.domain.value import Value
from tailorbird.monitoring.thresholds import Measurement, ThresholdGuard, Thresholds, percent, too_few
from tailorbird.stats.intervals import wilson


class Expectation(Value):
    """Expected service of a release: the objective's limits, and the gate's measurements. ``None`` where there is none.

    Latencies in milliseconds. Costs per 1,000 requests in ``currency``, which is that of ``Traffic.cost``. ``known_refused`` is the share
    of requests that a label fits and that the release refuses as out of scope; None where it refuses none.
    """

    latency_limit_ms: float | None = None
    latency_measured_ms: float | None = None
    cost_limit: float | None = None
    cost_measured: float | None = None
    currency: str = "EUR"
    known_refused: float | None = None


@dataclass(frozen=True)
class _Promise:
    """The value that traffic is held against, and where it comes from."""

    value: float
    source: str


def service_readings(traffic: Traffic, expected: Expectation, bounds: Thresholds) -> Iterator[Measurement]:
    """The four service measurements: failures, refusals, latency, cost.

    A rate is urgent only when the lower end of its Wilson interval has reached the bound, so that a bad minute of few requests is no alarm.
    Requests that a caller gave up on count neither as answered nor as failed.
    """
    tried = traffic.ok + traffic.errors
    yield rate("service.error_rate", "Requests that failed", (traffic.errors, tried), bounds.error_rate, bounds)
    yield rate("service.refusal_rate", "Requests that were refused", (traffic.refused, traffic.requests), bounds.refusal_rate, bounds)
    yield _latency(traffic, _promise(expected.latency_limit_ms, expected.latency_measured_ms, bounds), bounds)
    yield _cost(traffic, expected, bounds)


def fallback_reading(stood_in: int, traffic: Traffic | None, bounds: Thresholds) -> Measurement:
    """The share of requests that another release answered because the hosted model did not; ``traffic`` is what it answered itself, None:
    nothing. A rate like the others."""
    tried = stood_in + (traffic.ok + traffic.errors if traffic else 0)
    what = "Requests that the hosted model did not answer and the release before did"
    return rate("service.fallback_rate", what, (stood_in, tried), bounds.fallback_rate, bounds)


def refusal_reading(codes: Sequence[str]) -> Measurement:
    """Refusals of an engine to load the release, newest first, each by its code: an alarm from the first."""
    times = "once" if len(codes) == 1 else f"{len(codes)} times"
    text = f"The engine refused to load this release {times} within five minutes ({codes[0]}): what answered the name before answers it on."
    return Measurement("service.load_refused", float(len(codes)), len(codes), text, Severity.ALARM, 1.0)


def rate(name: SignalName, what: str, counted: tuple[int, int], guard: ThresholdGuard, bounds: Thresholds) -> Measurement:
    """A share of hits among n, as severe as the lower end of its interval."""
    hits, n = counted
    value = hits / n if n else 0.0
    if n < bounds.min_requests:
        return Measurement(name, value, n, too_few(what, n, bounds.min_requests), bound=guard.warning)
    low, _ = wilson(hits, n, 1 - 2 * bounds.alpha)
    severity = guard.severity(low)
    text = f"{what}: {hits} of {n} ({percent(value)}; surely at least {percent(low)}); the bound is {percent(guard.warning)}."
    return Measurement(name, value, n, text, severity, guard.warning)


def _promise(limit: float | None, measured: float | None, bounds: Thresholds) -> _Promise | None:
    if limit is not None:
        return _Promise(limit, "the objective's limit")
    if measured:
        return _Promise(measured * bounds.growth, f"{bounds.growth:g} times what was measured at the gate")
    return None


def _latency(traffic: Traffic, promise: _Promise | None, bounds: Thresholds) -> Measurement:
    name: SignalName = "service.latency_p95_ms"
    n, value = traffic.ok + traffic.errors, traffic.latency_p95_ms
    if n < bounds.min_requests:
        return Measurement(name, value, n, too_few("How long answers take", n, bounds.min_requests))
    text = f"95 of 100 answers came within {value:.0f} ms ({n} requests)"
    if promise is None:
        return Measurement(name, value, n, f"{text}; nothing was promised.")
    return _against(promise, bounds.latency, Measurement(name, value, n, f"{text}; the bound is {promise.value:.0f} ms, {promise.source}."))


def _cost(traffic: Traffic, expected: Expectation, bounds: Thresholds) -> Measurement:
    """Refused requests cost nothing and would hide what the others cost."""
    name: SignalName = "service.cost_per_1k_requests"
    n = traffic.requests - traffic.refused
    value = 1000 * traffic.cost / n if n else 0.0
    if n < bounds.min_requests:
        return Measurement(name, value, n, too_few("What requests cost", n, bounds.min_requests))
    promise = _promise(expected.cost_limit, expected.cost_measured, bounds)
    text = f"1,000 requests cost {value:.4g} {expected.currency} ({n} requests)"
    if promise is None:
        return Measurement(name, value, n, f"{text}; nothing was promised.")
    bound = f"the bound is {promise.value:.4g} {expected.currency}, {promise.source}"
    return _against(promise, bounds.cost, Measurement(name, value, n, f"{text}; {bound}."))


def _against(promise: _Promise, guard: ThresholdGuard, reading: Measurement) -> Measurement:
    """The reading with its urgency. What is exactly promised is kept."""
    scaled = guard.scaled(promise.value)
    severity = scaled.severity(reading.value) if reading.value > scaled.warning else Severity.INFO
    return Measurement(reading.name, reading.value, reading.n, reading.text, severity, scaled.warning)


_LIVE: dict[str, SignalName] = {"csat": "live_kpi.csat", "thumbs": "live_kpi.thumbs", "outcome": "live_kpi.outcome"}


def live_readings(findings: Sequence[LiveFinding]) -> Iterator[Measurement]:
    """The objective's live KPIs: an alarm where users are proven to be less content than it asks."""
    for found in findings:
        severity = Severity.ALARM if found.standing == "missed" else Severity.INFO
        yield Measurement(_LIVE[found.metric], found.value or 0.0, found.units, f"{found.text}.", severity, found.target)


#: So far below the target the reading is an alarm.
_FAR_BELOW = 0.1


def feedback_readings(marks: tuple[Marks, ...], target: float | None, bounds: Thresholds) -> Iterator[Measurement]:
    """Accuracy by people's labels, and mean rating on a scale from 0 to 1. Empty without feedback."""
    labels = next((one for one in marks if one.kind is FeedbackKind.LABEL), None)
    if labels is not None and labels.n:
        yield _accuracy(labels, target, bounds)
    others = [one for one in marks if one.kind is not FeedbackKind.LABEL]
    n = sum(one.n for one in others)
    if n:
        value = sum(one.n * one.mean for one in others) / n
        kinds = ", ".join(f"{one.n} by {one.kind.value}" for one in others)
        yield Measurement("feedback.score", value, n, f"On a scale from 0 to 1 people give the answers {value:.2f} ({kinds}).")


def _accuracy(labels: Marks, target: float | None, bounds: Thresholds) -> Measurement:
    """Urgent only when even the upper end of the interval lies below the target. Labels of referred answers are the hard ones."""
    name: SignalName = "feedback.accuracy"
    n = labels.n
    if n < bounds.min_messages:
        return Measurement(name, labels.mean, n, too_few("Answers that people found right", n, bounds.min_messages), bound=target)
    _, high = wilson(round(labels.mean * n), n, 1 - 2 * bounds.alpha)
    severity = Severity.INFO
    if target is not None and high < target:
        severity = Severity.ALARM if high < target - _FAR_BELOW else Severity.WARNING
    held = f"the target is {percent(target)}" if target is not None else "there is no target"
    return Measurement(name, labels.mean, n, f"People found {percent(labels.mean)} of {n} answers right; {held}.", severity, target)
