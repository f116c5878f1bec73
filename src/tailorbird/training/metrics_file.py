"""The metrics of a run as lines of JSON, for people and programs that watch it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tailorbird.domain.run import TrainingProgress


class MetricsFile:
    """One line for each step, as ``TrainingProgress``; a run that goes on from a checkpoint rewrites what stood after it."""

    def __init__(self, workspace: Path) -> None:
        self._path = workspace / "metrics.jsonl"

    def rewrite(self, history: Sequence[TrainingProgress]) -> None:
        """Starts with what is known."""
        new = self._path.with_suffix(".new")
        new.write_text("".join(line.model_dump_json() + "\n" for line in history), encoding="utf-8")
        new.replace(self._path)

    def append(self, line: TrainingProgress) -> None:
        """Adds a line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line.model_dump_json() + "\n")
