"""Service measurements of one release: failures, refusals, latency, cost, and KPIs from feedback."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tailorbird.domain.deployment import Traffic
from tailorbird.domain.feedback import FeedbackKind, Marks, Severity, SignalName
from tailorbird.domain.rollout import LiveFinding
from tailorbird.domain.value import Value
from tailorbird.monitoring.thresholds import (
    ALPHA,
    ERROR_RATE,
    FALLBACK_RATE,
    GROWTH,
    MIN_MESSAGES,
    MIN_REQUESTS,
    PROMISED,
    REFUSAL_RATE,
    Measurement,
    ThresholdGuard,
    percent,
    too_few,
)
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


def service_readings(traffic: Traffic, expected: Expectation) -> Iterator[Measurement]:
    """The four service measurements: failures, refusals, latency, cost.

    A rate is urgent only when the lower end of its Wilson interval has reached the bound, so that a bad minute of few requests is no alarm.
    Requests that a caller gave up on count neither as answered nor as failed.
    """
    tried = traffic.ok + traffic.errors
    yield rate("service.error_rate", "Requests that failed", (traffic.errors, tried), ERROR_RATE)
    yield rate("service.refusal_rate", "Requests that were refused", (traffic.refused, traffic.requests), REFUSAL_RATE)
    answered, latency, currency = tried, traffic.latency_p95_ms, expected.currency
    promise = _promise(expected.latency_limit_ms, expected.latency_measured_ms)
    text = f"95 of 100 answers came within {latency:.0f} ms ({answered} requests)"
    yield _promised("service.latency_p95_ms", latency, answered, promise, "How long answers take", text, "{:.0f} ms")
    # Refused requests cost nothing and would hide what the others cost.
    paid = traffic.requests - traffic.refused
    cost = 1000 * traffic.cost / paid if paid else 0.0
    promise = _promise(expected.cost_limit, expected.cost_measured)
    text = f"1,000 requests cost {cost:.4g} {currency} ({paid} requests)"
    yield _promised("service.cost_per_1k_requests", cost, paid, promise, "What requests cost", text, f"{{:.4g}} {currency}")


def fallback_reading(stood_in: int, traffic: Traffic | None) -> Measurement:
    """The share of requests that another release answered because the hosted model did not; ``traffic`` is what it answered itself, None:
    nothing. A rate like the others."""
    tried = stood_in + (traffic.ok + traffic.errors if traffic else 0)
    what = "Requests that the hosted model did not answer and the release before did"
    return rate("service.fallback_rate", what, (stood_in, tried), FALLBACK_RATE)


def refusal_reading(codes: Sequence[str]) -> Measurement:
    """Refusals of an engine to load the release, newest first, each by its code: an alarm from the first."""
    times = "once" if len(codes) == 1 else f"{len(codes)} times"
    text = f"The engine refused to load this release {times} within five minutes ({codes[0]}): what answered the name before answers it on."
    return Measurement("service.load_refused", float(len(codes)), len(codes), text, Severity.ALARM, 1.0)


def rate(name: SignalName, what: str, counted: tuple[int, int], guard: ThresholdGuard) -> Measurement:
    """A share of hits among n, as severe as the lower end of its interval."""
    hits, n = counted
    value = hits / n if n else 0.0
    if n < MIN_REQUESTS:
        return Measurement(name, value, n, too_few(what, n, MIN_REQUESTS), bound=guard.warning)
    low, _ = wilson(hits, n, 1 - 2 * ALPHA)
    severity = guard.severity(low)
    text = f"{what}: {hits} of {n} ({percent(value)}; surely at least {percent(low)}); the bound is {percent(guard.warning)}."
    return Measurement(name, value, n, text, severity, guard.warning)


def _promise(limit: float | None, measured: float | None) -> tuple[float, str] | None:
    """The value that traffic is held against, and where it comes from."""
    if limit is not None:
        return limit, "the objective's limit"
    return (measured * GROWTH, f"{GROWTH:g} times what was measured at the gate") if measured else None


def _promised(name: SignalName, value: float, n: int, promise: tuple[float, str] | None, what: str, text: str, form: str) -> Measurement:
    """``value`` of ``n`` requests against what was promised; what is exactly promised is kept."""
    if n < MIN_REQUESTS:
        return Measurement(name, value, n, too_few(what, n, MIN_REQUESTS))
    if promise is None:
        return Measurement(name, value, n, f"{text}; nothing was promised.")
    bound, source = promise
    severity = Severity.INFO
    if value > PROMISED.warning * bound:
        severity = Severity.ALARM if value >= PROMISED.alarm * bound else Severity.WARNING
    return Measurement(name, value, n, f"{text}; the bound is {form.format(bound)}, {source}.", severity, PROMISED.warning * bound)


_LIVE: dict[str, SignalName] = {"csat": "live_kpi.csat", "thumbs": "live_kpi.thumbs", "outcome": "live_kpi.outcome"}


def live_readings(findings: Sequence[LiveFinding]) -> Iterator[Measurement]:
    """The objective's live KPIs: an alarm where users are proven to be less content than it asks."""
    for found in findings:
        severity = Severity.ALARM if found.standing == "missed" else Severity.INFO
        yield Measurement(_LIVE[found.metric], found.value or 0.0, found.units, f"{found.text}.", severity, found.target)


#: So far below the target the reading is an alarm.
_FAR_BELOW = 0.1


def feedback_readings(marks: tuple[Marks, ...], target: float | None) -> Iterator[Measurement]:
    """Accuracy by people's labels, and mean rating on a scale from 0 to 1. Empty without feedback."""
    labels = next((one for one in marks if one.kind is FeedbackKind.LABEL), None)
    if labels is not None and labels.n:
        yield _accuracy(labels, target)
    others = [one for one in marks if one.kind is not FeedbackKind.LABEL]
    n = sum(one.n for one in others)
    if n:
        value = sum(one.n * one.mean for one in others) / n
        kinds = ", ".join(f"{one.n} by {one.kind.value}" for one in others)
        yield Measurement("feedback.score", value, n, f"On a scale from 0 to 1 people give the answers {value:.2f} ({kinds}).")


def _accuracy(labels: Marks, target: float | None) -> Measurement:
    """Urgent only when even the upper end of the interval lies below the target. Labels of referred answers are the hard ones."""
    name: SignalName = "feedback.accuracy"
    n = labels.n
    if n < MIN_MESSAGES:
        return Measurement(name, labels.mean, n, too_few("Answers that people found right", n, MIN_MESSAGES), bound=target)
    _, high = wilson(round(labels.mean * n), n, 1 - 2 * ALPHA)
    severity = Severity.INFO
    if target is not None and high < target:
        severity = Severity.ALARM if high < target - _FAR_BELOW else Severity.WARNING
    held = f"the target is {percent(target)}" if target is not None else "there is no target"
    return Measurement(name, labels.mean, n, f"People found {percent(labels.mean)} of {n} answers right; {held}.", severity, target)
