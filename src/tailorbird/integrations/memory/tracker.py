"""A tracker that remembers.

In: steps of trainings. Out: what was shown. Must not know: any outside system.
"""

from __future__ import annotations

from tailorbird.domain.errors import Unavailable
from tailorbird.domain.run import TrainingProgress, TrainingReport
from tailorbird.ports.tracker import TrackedTraining


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
