"""Limits as they are typed: ``NAME=NUMBER``, or ``NAME=none`` where there is to be none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from tailorbird.domain.value import Value

Limits = TypeVar("Limits", bound=Value)
#: What lifts a limit.
_LIFTED = "none"


def with_limits(present: Limits, given: Sequence[str]) -> Limits:
    """``present`` with what is ``given``. Raises ValidationError: there is no such limit, or it is no number."""
    named: dict[str, str | None] = dict(one.partition("=")[::2] for one in given)
    changed = {name: None if value == _LIFTED else value for name, value in named.items()}
    return type(present).model_validate(present.model_dump() | changed)
