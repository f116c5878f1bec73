"""Everything wrong with an objective file, gathered and raised as one error.

In: faults with their lines. Out: one ObjectiveInvalid that names them all, first line first. Must not know: YAML, metrics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tailorbird.domain.errors import ObjectiveInvalid

#: Where a hint sends somebody who needs to see a whole file.
EXAMPLE = "examples/support_desk/objective.yaml shows a whole objective"


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong at a 1-based line (0: no line is to blame), and what to do about it."""

    line: int
    message: str
    hint: str
    code: str = ObjectiveInvalid.code


def raise_faults(source: str, faults: Sequence[Fault]) -> None:
    """Raises ObjectiveInvalid with the first fault's line, hint and code, and the others below it; returns when there are none."""
    if not faults:
        return
    first, *others = sorted(faults, key=lambda fault: fault.line)
    lines = [_located(source, first)] + [f"{_located(source, fault)} ({fault.hint})" for fault in others]
    raise ObjectiveInvalid("\n".join(lines), first.hint, code=first.code, line=first.line)


def _located(source: str, fault: Fault) -> str:
    place = f"{source}:{fault.line}" if fault.line else source
    return f"{place}: {fault.message}"
