"""The table of sections follows the domain: every section of an objective has its known keys."""

from __future__ import annotations

from typing import Any, get_args

from tailorbird.domain.objective import Objective
from tailorbird.domain.value import Value
from tailorbird.objective.schema import SECTIONS


def sections_of(kind: type[Value], path: str) -> dict[str, type[Value]]:
    found = {path: kind}
    for name, field in kind.model_fields.items():
        below = f"{path}.{name}" if path else name
        for value, many in values_in(field.annotation):
            found |= sections_of(value, f"{below}.*" if many else below)
    return found


def values_in(annotation: Any) -> list[tuple[type[Value], bool]]:
    if isinstance(annotation, type) and issubclass(annotation, Value):
        return [(annotation, False)]
    many = getattr(annotation, "__origin__", None) is tuple
    return [(value, many or inner) for part in get_args(annotation) for value, inner in values_in(part)]


def test_the_table_names_every_section() -> None:
    assert sections_of(Objective, "") == SECTIONS
