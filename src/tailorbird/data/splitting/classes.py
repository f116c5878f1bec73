"""Labels that a classifier can learn: at least two, each with at least two rows, no two of them alike.

In: how often each label occurs. Out: nothing, or why the labels cannot be used. Must not know: rows, splits.
"""

from __future__ import annotations

from collections.abc import Mapping

from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.objective import Task, TaskKind
from tailorbird.foundations.text import normalise

#: With more labels than this, and fewer than two rows a label, the column is no column of labels.
MANY = 10


def check_classes(counts: Mapping[str, int], task: Task) -> None:
    """Raises DataInvalid when the labels, each with its number of distinct rows, cannot be learned from. Free answers are no labels."""
    if task.kind is not TaskKind.CLASSIFY:
        return
    _check_number(counts)
    _check_collisions(counts)
    small = sorted(label for label, count in counts.items() if count < 2)
    if small:
        also = f" (and {len(small) - 1} more labels like it)" if len(small) > 1 else ""
        rows = "a single row" if counts[small[0]] else "no row left after quarantine"
        message = f"the label {small[0][:80]!r} has {rows}{also}: it cannot be learned and tested"
        hint = "bring more rows of this label (at least 3, better 20), merge it into another label, or remove it"
        raise DataInvalid(message, hint, code="class_too_small")


def _check_number(counts: Mapping[str, int]) -> None:
    rows = sum(counts.values())
    if len(counts) > max(MANY, rows / 2):
        message = f"{len(counts):,} different labels in {rows:,} rows"
        hint = "check that `label` names the column of the label and `text` that of the text; for free answers use kind: generate"
        raise DataInvalid(message, hint, code="too_many_classes")
    if len(counts) < 2:
        message = f"only one label, {next(iter(counts))[:80]!r}" if counts else "no rows with a label"
        raise DataInvalid(f"{message}: there is nothing to tell apart", "bring rows of at least two labels", code="too_few_classes")


def _check_collisions(counts: Mapping[str, int]) -> None:
    seen: dict[str, str] = {}
    for label in sorted(counts):
        other = seen.setdefault(normalise(label), label)
        if other != label:
            message = f"the labels {other[:80]!r} and {label[:80]!r} differ only in case or white space"
            raise DataInvalid(message, "spell the label in one way in all files", code="labels_collide")
