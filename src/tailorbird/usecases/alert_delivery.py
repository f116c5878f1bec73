"""Delivery of alerts to the receivers that are set."""

from __future__ import annotations

from collections.abc import Sequence

from tailorbird import monitoring
from tailorbird.domain.errors import Unavailable
from tailorbird.domain.feedback import Signal
from tailorbird.usecases.dependencies import Dependencies


def send_alerts(deps: Dependencies, told: Sequence[Signal]) -> int:
    """Sends ``told`` to every notifier; returns how many could not be reached. The signals are in the record whoever is reached."""
    undelivered = 0
    for notifier in deps.notifiers() if told else ():
        try:
            notifier.send(monitoring.alert_message(told))
        except Unavailable:
            undelivered += 1
    return undelivered
