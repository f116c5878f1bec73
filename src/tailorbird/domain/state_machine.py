"""Transitions of a state machine that is a table."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from tailorbird.domain.errors import Conflict

S = TypeVar("S", bound=StrEnum)
A = TypeVar("A", bound=StrEnum)


def transition(table: Mapping[tuple[S, A], S], state: S, action: A, noun: str) -> S:
    """The state of a ``noun`` after ``action``. Raises Conflict when ``table`` has no such transition."""
    try:
        return table[state, action]
    except KeyError:
        said = state.value.replace("_", " ")
        allowed = sorted(possible.value for before, possible in table if before is state) or ["nothing: the state is final"]
        raise Conflict(
            f"a {noun} that is {said} cannot {action.value.replace('_', ' ')}",
            f"from {said} one can: {', '.join(allowed)}",
            code=f"{noun}_state",
        ) from None
