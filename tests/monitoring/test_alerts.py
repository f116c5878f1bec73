"""What is told: warnings and alarms, once in a while, and at once when it grows worse."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.monitoring import NOW, RELEASE
from tailorbird.domain.feedback import Severity, Signal
from tailorbird.monitoring.alerts import QUIET_PERIOD, alert_message, alerts


def signal(severity: Severity, hours: float = 0, name: str = "service.error_rate", objective: str = "routing") -> Signal:
    return Signal(
        tenant="acme",
        objective=objective,
        release=RELEASE,
        name=name,
        value=0.5,
        bound=0.1,
        n=100,
        severity=severity,
        text="Half failed.",
        at=NOW + timedelta(hours=hours),
    )


INFO, WARNING, ALARM = Severity


@pytest.mark.parametrize(
    ("now", "before", "told"),
    [
        (INFO, None, False),
        (WARNING, None, True),
        (ALARM, None, True),
        (WARNING, (WARNING, -1), False),
        (WARNING, (WARNING, -24), True),
        (ALARM, (WARNING, -1), True),
        (WARNING, (ALARM, -1), False),
        (ALARM, (ALARM, -23.9), False),
        (WARNING, (INFO, -1), True),
    ],
)
def test_one_signal_before(now: Severity, before: tuple[Severity, float] | None, told: bool):
    last = [signal(*before)] if before else []
    assert bool(alerts([signal(now)], last)) is told


@given(st.lists(st.tuples(st.sampled_from(Severity), st.integers(0, 100)), max_size=20))
def test_in_any_history_what_is_told_is_bad_and_never_told_twice_within_the_quiet(history: list[tuple[Severity, int]]):
    kept: list[Signal] = []
    told: list[Signal] = []
    for severity, hour in sorted(set(history), key=lambda pair: pair[1]):
        now = (signal(severity, hour),)
        told += alerts(now, kept)
        kept += now
    order = list(Severity)
    for place, later in enumerate(told):
        assert later.severity is not INFO
        for earlier in told[:place]:
            assert later.at - earlier.at >= QUIET_PERIOD or order.index(later.severity) > order.index(earlier.severity)
    assert bool(told) == any(one.severity is not INFO for one in kept)


def test_the_message_is_json_for_people_and_programs():
    message = json.loads(json.dumps(alert_message([signal(WARNING), signal(ALARM, name="drift.text")])))
    assert message["severity"] == "alarm"
    assert message["text"].splitlines()[0] == f"[warning] acme/routing, release {RELEASE[7:19]}: Half failed."
    assert [Signal.model_validate(one) for one in message["signals"]] == [signal(WARNING), signal(ALARM, name="drift.text")]
