"""Thresholds: a guard tells how far a value went."""

from __future__ import annotations

from tailorbird.domain.feedback import Severity
from tailorbird.monitoring.thresholds import ThresholdGuard


def test_a_guard_tells_by_how_far_it_went():
    guard = ThresholdGuard(warning=1, alarm=2)
    assert [guard.severity(value) for value in (0.9, 1, 2)] == [Severity.INFO, Severity.WARNING, Severity.ALARM]
