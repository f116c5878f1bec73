"""Alerts: which signals are new or worse, and the message for the notifier."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

from tailorbird.crypto.canonical_json import short
from tailorbird.domain.feedback import Severity, Signal

#: How long a signal that was told is not told again, unless it grows worse.
QUIET_PERIOD = timedelta(hours=24)

_URGENCY = {Severity.INFO: 0, Severity.WARNING: 1, Severity.ALARM: 2}
_Key = tuple[str, str, str | None, str]


def alerts(signals: Sequence[Signal], last: Sequence[Signal], quiet: timedelta = QUIET_PERIOD) -> tuple[Signal, ...]:
    """Signals to send now: at least a warning, and not sent within ``quiet`` at the same or a higher severity.

    ``last`` is what was read before, in any order. Which of it was told follows from the same rule, replayed from the oldest on: so a
    reading that stays bad is told once per ``quiet``, and again at once when a warning becomes an alarm. It may already hold ``signals``.
    """
    told: dict[_Key, Signal] = {}
    _tell(sorted(set(last) - set(signals), key=lambda signal: signal.at), told, quiet)
    return _tell(signals, told, quiet)


def alert_message(signals: Sequence[Signal]) -> dict[str, object]:
    """One JSON message about ``signals``: ``text`` for people (the field that chat tools show), ``signals`` for programs."""
    lines = [f"[{signal.severity.value}] {_about(signal)}: {signal.text}" for signal in signals]
    return {
        "source": "tailorbird",
        "kind": "alert",
        "severity": max((signal.severity for signal in signals), key=_URGENCY.__getitem__, default=Severity.INFO).value,
        "text": "\n".join(lines),
        "signals": [signal.model_dump(mode="json") for signal in signals],
    }


def _tell(signals: Iterable[Signal], told: dict[_Key, Signal], quiet: timedelta) -> tuple[Signal, ...]:
    """The signals that are news, in their order; each is entered in ``told``."""
    news = []
    for signal in signals:
        if _is_news(signal, told.get(_key(signal)), quiet):
            told[_key(signal)] = signal
            news.append(signal)
    return tuple(news)


def _is_news(signal: Signal, told: Signal | None, quiet: timedelta) -> bool:
    if signal.severity is Severity.INFO:
        return False
    return told is None or signal.at - told.at >= quiet or _URGENCY[signal.severity] > _URGENCY[told.severity]


def _key(signal: Signal) -> _Key:
    return signal.tenant, signal.objective, signal.release, signal.name


def _about(signal: Signal) -> str:
    release = f", release {short(signal.release)}"
    return f"{signal.tenant}/{signal.objective}{release}"
