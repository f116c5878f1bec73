"""Service measurements: rates judged by what is sure, latency and cost against limits."""

from __future__ import annotations

import pytest

from support.monitoring import by_name, look, traffic
from tailorbird.domain.feedback import Severity
from tailorbird.monitoring.service import Expectation


def test_a_healthy_service():
    found = by_name(look(flow=traffic(ok=1000, errors=2, refused=5), expected=Expectation(latency_limit_ms=100, cost_limit=1.0)))
    assert list(found) == ["service.error_rate", "service.refusal_rate", "service.latency_p95_ms", "service.cost_per_1k_requests"]
    assert {signal.severity for signal in found.values()} == {Severity.INFO}
    assert found["service.error_rate"].value == pytest.approx(2 / 1002)
    assert found["service.refusal_rate"].value == pytest.approx(5 / 1007)
    assert found["service.cost_per_1k_requests"].value == pytest.approx(0.1 / 1002 * 1000)
    assert found["service.latency_p95_ms"].text == (
        "95 of 100 answers came within 50 ms (1002 requests); the bound is 100 ms, the objective's limit."
    )


@pytest.mark.parametrize(
    ("errors", "severity"),
    [(20, Severity.INFO), (30, Severity.INFO), (40, Severity.WARNING), (120, Severity.WARNING), (130, Severity.ALARM)],
)
def test_an_error_rate_is_told_when_its_lower_end_reaches_the_bound(errors: int, severity: Severity):
    """Of 1,000 with a one-sided 99 % Wilson bound: 30 failures may still be a rate below 2 %, and 120 one below 10 %."""
    assert by_name(look(flow=traffic(ok=1000 - errors, errors=errors)))["service.error_rate"].severity is severity


def test_a_bad_minute_of_few_requests_is_no_alarm():
    found = by_name(look(flow=traffic(ok=5, errors=5, p95=9999, cost=99), expected=Expectation(latency_limit_ms=1, cost_limit=0.1)))
    for signal in found.values():
        assert signal.severity is Severity.INFO
        assert "too few to tell (10 of 100)" in signal.text
    assert found["service.error_rate"].value == 0.5


@pytest.mark.parametrize(
    ("p95", "expected", "severity"),
    [
        (100, Expectation(latency_limit_ms=100, latency_measured_ms=10), Severity.INFO),
        (101, Expectation(latency_limit_ms=100, latency_measured_ms=10), Severity.WARNING),
        (200, Expectation(latency_limit_ms=100), Severity.ALARM),
        (100, Expectation(latency_measured_ms=60), Severity.INFO),
        (130, Expectation(latency_measured_ms=60), Severity.WARNING),
        (1e6, Expectation(), Severity.INFO),
    ],
)
def test_latency_is_held_against_the_limit_or_else_twice_what_was_measured(p95: float, expected: Expectation, severity: Severity):
    assert by_name(look(flow=traffic(p95=p95), expected=expected))["service.latency_p95_ms"].severity is severity
