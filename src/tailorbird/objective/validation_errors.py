"""Everything wrong with an objective file, gathered and raised as one error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tailorbird.domain.errors import ObjectiveInvalid

#: Where a hint sends somebody who needs to see a whole file.
EXAMPLE = "examples/support_desk/objective.yaml shows a whole objective"


#: Faults that are told at most, and characters of each: a file can be wrong in more places than anybody would read.
MOST_FAULTS, _LONGEST = 20, 400


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
    told = others[: MOST_FAULTS - 1]
    lines = [_located(source, first)] + [f"{_located(source, fault)} ({shortened(fault.hint)})" for fault in told]
    if len(told) < len(others):
        lines.append(f"and {len(others) - len(told):,} more")
    raise ObjectiveInvalid("\n".join(lines), shortened(first.hint), code=first.code, line=first.line)


def _located(source: str, fault: Fault) -> str:
    place = f"{source}:{fault.line}" if fault.line else source
    return f"{place}: {shortened(fault.message)}"


def shortened(text: str) -> str:
    """``text``, cut where it is longer than a message should be."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
