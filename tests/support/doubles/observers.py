"""Fixed clock, and a notifier and a tracker that record what they are told."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from tailorbird.domain.errors import Unavailable
from tailorbird.domain.run import TrainingProgress, TrainingReport
from tailorbird.ports.tracker import TrackedTraining


class FixedClock:
    """Clock that shows the time it was set to."""

    def __init__(self, at: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._at = at

    def now(self) -> datetime:
        """The time it was set to, in UTC."""
        return self._at

    def advance(self, by: timedelta) -> None:
        """Moves the time on (or back)."""
        self._at += by


class MemoryNotifier:
    """A ``Notifier`` for tests: ``sent`` holds what was delivered, oldest first; the next ``failures`` messages are not."""

    def __init__(self, failures: int = 0) -> None:
        self.sent: list[dict[str, object]] = []
        self.failures = failures

    def send(self, message: Mapping[str, object]) -> None:
        """Remembers ``message``. Raises Unavailable while failures are left."""
        if self.failures > 0:
            self.failures -= 1
            raise Unavailable("the message was not delivered", "try again", code="notifier_undelivered")
        self.sent.append(dict(message))


class MemoryTracker:
    """Implements ``Tracker``; ``reachable`` set to False, it fails as a server that is down does."""

    def __init__(self) -> None:
        self.trainings: list[TrackedTraining] = []
        self.lines: list[TrainingProgress] = []
        self.ends: list[TrainingReport | None] = []
        self.reachable = True

    def begin(self, training: TrackedTraining) -> None:
        """Remembers ``training``."""
        self._reach()
        self.trainings.append(training)

    def note(self, line: TrainingProgress) -> None:
        """Remembers ``line``."""
        self._reach()
        self.lines.append(line)

    def end(self, report: TrainingReport | None) -> None:
        """Remembers how it ended."""
        self._reach()
        self.ends.append(report)

    def _reach(self) -> None:
        if not self.reachable:
            raise Unavailable("the tracker cannot be reached", "make it reachable", code="tracker_unreachable")
