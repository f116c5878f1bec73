"""Rules of a risk tier that an objective does not follow, as people read it.

In: exceptions. Out: lines of text. Must not know: what the rules demand.
"""

from __future__ import annotations

from collections.abc import Sequence

from tailorbird.domain.objective import RuleException


def exception_lines(exceptions: Sequence[RuleException]) -> list[str]:
    """One sentence an exception: the rule, who decided it, and why."""
    return [f"exception from {each.rule.replace('_', ' ')}, decided by {each.by}: {each.because}" for each in exceptions]
