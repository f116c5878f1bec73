"""TensorBoard tracker: event files by tensorboardX."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from tailorbird.domain.errors import Unavailable
from tailorbird.domain.run import TrainingProgress, TrainingReport
from tailorbird.ports.tracker import TrackedTraining, numbers
from tailorbird.system.files import private_folder

_FLUSH_SECONDS = 10


class TensorBoardTracker:
    """Implements ``Tracker``. A training that is gone on with adds a file beside the first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None

    def begin(self, training: TrackedTraining) -> None:
        """Makes the folder of the training and writes its settings."""
        place = self._folder / training.experiment / training.run / training.name.replace(" ", "-")
        try:
            private_folder(place)
            # Files are named by the second: one that is gone on with at once would be overwritten.
            self._writer = SummaryWriter(str(place), flush_secs=_FLUSH_SECONDS, filename_suffix=f".{time.time_ns()}")
        except OSError as error:
            raise _unwritable(place, error) from error
        table = "".join(f"| {name} | {value} |\n" for name, value in sorted(training.settings.items()))
        self._writer.add_text("settings", f"| setting | value |\n|---|---|\n{table}")

    def note(self, line: TrainingProgress) -> None:
        """A point on each curve."""
        for name, value in numbers(line).items():
            self._writer.add_scalar(name, value, line.step)

    def end(self, report: TrainingReport | None) -> None:
        """Writes what is left and closes the file."""
        if report is not None:
            self._writer.add_scalar("best_held_out_loss", report.best_held_out_loss, report.best_step)
        try:
            self._writer.close()
        except OSError as error:
            raise _unwritable(self._folder, error) from error


def _unwritable(place: Path, error: OSError) -> Unavailable:
    return Unavailable(
        f"TensorBoard's folder {place} cannot be written: {error.strerror}",
        "correct the setting tracking, or give this user the right to write there",
        code="tracker_unreachable",
    )
