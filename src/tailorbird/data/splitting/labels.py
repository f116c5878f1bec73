"""The single labels of a row, whatever the task.

In: a row's target, a task. Out: its labels. Must not know: rows, splits.
"""

from __future__ import annotations

from tailorbird.domain.objective import Task, TaskKind
from tailorbird.foundations.label_sets import split


def labels_of(target: str, task: Task) -> tuple[str, ...]:
    """Exactly one label, or any number of distinct ones, where the task has labels; none for answers in free text."""
    if task.kind is not TaskKind.CLASSIFY:
        return ()
    return split(target) if task.labels == "many" else (target,)
