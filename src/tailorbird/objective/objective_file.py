"""An objective together with where each of its keys stands."""

from __future__ import annotations

from tailorbird.domain.objective import Objective
from tailorbird.domain.value import Value


class ObjectiveFile(Value):
    """What was read. ``folder`` is where relative data paths start.

    ``lines`` maps a dotted key path (``kpis.0.target``) to the 1-based line of the key, and ``""`` to the line on which the
    document starts. ``source`` is the file's name as errors show it.
    """

    objective: Objective
    folder: str
    lines: dict[str, int]
    source: str = "objective.yaml"

    def line_of(self, path: str) -> int:
        """The line of ``path``, or of the nearest key above it that stands in the file; 0 when there is none."""
        return nearest_line(self.lines, path)


def nearest_line(lines: dict[str, int], path: str) -> int:
    """The line of ``path`` or of its nearest parent in ``lines``; the whole file is the parent named ``""``."""
    while path not in lines and path:
        path = path.rpartition(".")[0]
    return lines.get(path, 0)
