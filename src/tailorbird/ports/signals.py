"""Readings of production, kept; and whom to tell of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from tailorbird.domain.feedback import Signal


class SignalRepository(Protocol):
    """One tenant's readings."""

    def add(self, signals: Sequence[Signal]) -> None:
        """Adds readings, all or none."""
        ...

    def latest(self, limit: int = 100, objective: str | None = None) -> tuple[Signal, ...]:
        """The newest readings, newest first; only those of ``objective``, where given."""
        ...


class Notifier(Protocol):
    """Tells somebody outside: a webhook, say."""

    def send(self, message: Mapping[str, object]) -> None:
        """Delivers one JSON message. Raises Unavailable when it could not be delivered, after trying more than once."""
        ...
