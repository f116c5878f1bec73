"""A step that hangs is noticed; one that is long because it is large is not."""

from __future__ import annotations

from tailorbird.inference.worker import StepWatchdog


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_step_that_hangs_is_overdue() -> None:
    time = Time()
    pulse = StepWatchdog(time)
    time.now = 1e6
    assert not pulse.overdue  # nothing is under way
    pulse.begin(8)
    time.now += 1
    pulse.end()
    pulse.begin(8)
    time.now += 29
    assert not pulse.overdue
    time.now += 2
    assert pulse.overdue
    pulse.end()
    assert not pulse.overdue
