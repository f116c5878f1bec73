"""A look at a release: drift is told when it is proven and large; rates are judged by what is sure; too little says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from support.monitoring import NOW, RELEASE, TOPICS, by_name, messages, request, requests, severities, traffic
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.dataset import Provenance, Row, Split
from tailorbird.domain.deployment import RequestRow, Traffic
from tailorbird.domain.signal import Severity, Signal
from tailorbird.monitoring import Expectation, Reference, ThresholdGuard, Thresholds, WatchInputs, check_release, reference_of
from tailorbird.text.sketch import sketch

ALL = tuple(TOPICS)
DRIFT = {"drift.text", "drift.length", "drift.classes"}


def row(text: str, target: str) -> Row:
    origin = Provenance(file="f", file_digest=RELEASE, line=1, origin="o", license="l", collected="c", consent="c")
    return Row(id=digest_bytes(text.encode()), text=text, target=target, group="g", split=Split.TRAIN, provenance=origin)


def reference(topics: Sequence[str] = ALL, n: int = 400) -> Reference:
    said = messages(topics, n, seed=7)
    return reference_of([row(text, topic) for text, topic in said], [topic for _, topic in said])


def look(
    live: Sequence[RequestRow] = (),
    held: Reference | None = None,
    flow: Traffic | None = None,
    expected: Expectation | None = None,
    bounds: Thresholds | None = None,
) -> tuple[Signal, ...]:
    return check_release(
        WatchInputs(
            tenant="acme",
            objective="routing",
            release=RELEASE,
            at=NOW,
            reference=held,
            requests=tuple(live),
            traffic=flow,
            expected=expected or Expectation(),
            bounds=bounds or Thresholds(),
        )
    )


def test_live_messages_like_those_trained_on_are_no_drift():
    found = look(requests(messages(ALL, 300, seed=8)), reference())
    assert severities(found) == dict.fromkeys(DRIFT, Severity.INFO)
    for signal in found:
        assert signal.p_value is not None
        assert signal.p_value > 0.01
        assert signal.n == 300
        assert "No drift is proven" in signal.text


def test_messages_about_something_else_are_drift_in_text_and_classes():
    found = by_name(look(requests(messages(("refund",), 200, seed=8)), reference()))
    assert found["drift.text"].severity is not Severity.INFO
    assert found["drift.classes"].severity is Severity.ALARM
    # Three tests were made, so that the smallest possible p-value, 0.001, counts as 0.003.
    assert found["drift.text"].p_value == pytest.approx(0.003, abs=0.0011)
    assert "refund: 100 % of answers" in found["drift.classes"].text
    assert "the bound is 55 %" in found["drift.text"].text
    assert "200 live and " in found["drift.text"].text


def test_longer_messages_are_drift_in_length():
    live = [request(f"{text} {text} {text}", topic, place) for place, (text, topic) in enumerate(messages(ALL, 200, seed=8))]
    found = by_name(look(live, reference()))["drift.length"]
    assert found.severity is Severity.ALARM
    assert found.value > 0.8
    assert "Half of the live messages have at most" in found.text


def test_a_shift_too_small_to_matter_is_not_told_however_many_messages_prove_it():
    held = Reference(sketches=(), characters=(), classes={"a": 50_000, "b": 50_000})
    live = [request(f"m{place}", "a" if place % 100 < 53 else "b", place) for place in range(20_000)]
    found = by_name(look(live, held))["drift.classes"]
    assert found.p_value is not None
    assert found.p_value <= 0.01
    assert found.severity is Severity.INFO
    assert "Too little to matter" in found.text


def test_a_large_effect_that_may_be_chance_is_not_told():
    held = Reference(sketches=(), characters=(), classes={"a": 30, "b": 30})
    live = [request(f"m{place}", "a" if place % 3 else "b", place) for place in range(60)]
    found = by_name(look(live, held))["drift.classes"]
    assert found.p_value is not None
    assert found.p_value > 0.01
    assert found.severity is Severity.INFO


def test_too_few_messages_say_so_and_alarm_nobody():
    found = by_name(look(requests(messages(("refund",), 49, seed=8)), reference()))
    for name in DRIFT:
        assert found[name].severity is Severity.INFO
        assert found[name].p_value is None
        assert "too few to tell (49 of 50)" in found[name].text
    assert found["drift.text"].value == 0.5


def test_a_client_that_repeats_itself_is_no_drift():
    said = messages(ALL, 100, seed=8)
    loop = [request("card lost please help", "lost_card", 1000 + n) for n in range(500)]
    found = by_name(look([*requests(said), *loop], reference()))
    assert found["drift.text"].n == 101
    assert found["drift.classes"].severity is Severity.INFO


def test_only_answered_requests_are_compared_and_only_those_that_carry_a_sketch():
    live = [request(f"word{n}", None, n, outcome="error") for n in range(100)]
    old = [request(f"text {n}", "refund", 200 + n, sketch="", characters=0) for n in range(100)]
    found = by_name(look([*live, *old], reference()))
    assert (found["drift.text"].n, found["drift.length"].n, found["drift.classes"].n) == (0, 0, 100)


def test_a_release_without_classes_has_no_reading_of_them():
    held = reference_of([row(text, "an answer") for text, _ in messages(ALL, 100, seed=1)])
    assert set(severities(look(requests(messages(ALL, 100, seed=2)), held))) == DRIFT - {"drift.classes"}


def test_what_was_not_collected_is_left_out():
    assert look() == ()


def test_the_same_look_gives_the_same_signals():
    live, held = requests(messages(ALL, 100, seed=8)), reference()
    assert look(live, held, traffic()) == look(live, held, traffic())


def test_the_reference_holds_no_text_and_counts_a_text_once():
    held = reference_of([row("Card LOST", "a"), row("card lost!", "a"), row("top up", "b")], ["a", "a", "b"])
    assert set(held.sketches) == {sketch("card lost"), sketch("top up")}
    assert len(held.characters) == 2
    assert held.classes == {"a": 2, "b": 1}
    assert "lost" not in held.model_dump_json().lower()


def test_a_large_snapshot_is_sampled_by_digest_whatever_its_order():
    rows = [row(f"message number {n}", "a") for n in range(2500)]
    assert len(reference_of(rows).sketches) == 2000
    assert reference_of(rows) == reference_of(rows[::-1])


# The service


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


def test_no_request_at_all():
    for signal in look(flow=traffic(ok=0, cost=0.0)):
        assert signal.severity is Severity.INFO
        assert "too few to tell (0 of 100)" in signal.text


def test_many_refusals_are_told():
    assert by_name(look(flow=traffic(ok=500, refused=100)))["service.refusal_rate"].severity is Severity.WARNING


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


def test_costs_are_held_against_the_limit_and_refused_requests_do_not_thin_them():
    expected = Expectation(cost_limit=0.4, currency="EUR")
    found = by_name(look(flow=traffic(ok=1000, refused=1000, cost=0.5), expected=expected))["service.cost_per_1k_requests"]
    assert found.value == pytest.approx(0.5)
    assert found.severity is Severity.WARNING
    assert found.bound == 0.4
    assert found.text == "1,000 requests cost 0.5 EUR (1000 requests); the bound is 0.4 EUR, the objective's limit."


def test_a_guard_tells_by_how_far_it_went():
    guard = ThresholdGuard(warning=1, alarm=2)
    assert [guard.severity(value) for value in (0.9, 1, 2)] == [Severity.INFO, Severity.WARNING, Severity.ALARM]
    with pytest.raises(ValidationError):
        ThresholdGuard(warning=2, alarm=1)


@given(st.integers(0, 3000), st.integers(0, 300), st.integers(0, 300), st.floats(0, 1e6))
def test_any_traffic_gives_four_readings_with_a_sentence(ok: int, errors: int, refused: int, p95: float):
    found = look(flow=traffic(ok, errors, refused, p95), expected=Expectation(latency_measured_ms=10.0))
    assert len(found) == 4
    assert all(signal.text.endswith(".") and signal.release == RELEASE and signal.at == NOW for signal in found)
    assert Counter(signal.name.split(".")[0] for signal in found) == {"service": 4}
