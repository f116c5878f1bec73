"""Base class of domain values: frozen, closed to unknown fields, serialisable."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, StringConstraints

from tailorbird.domain.errors import Conflict

#: ``sha256:`` followed by 64 hexadecimal digits: the name of some bytes or of some value.
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]

#: A name that may stand in a path, a URL and a YAML file: tenants, objectives, identities.
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]


class Value(BaseModel):
    """A frozen value: equal by content, safe to share, refused when it carries unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Section(Value):
    """A part of the objective file. The text below a field says what it is for, here and in an editor."""

    model_config = ConfigDict(use_attribute_docstrings=True)


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
