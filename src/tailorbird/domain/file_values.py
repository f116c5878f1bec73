"""Values as people write them in a YAML file, which reads some of them as numbers, days or switches."""

from __future__ import annotations

from typing import Any


def year(given: Any) -> Any:
    """A year is written without quotes as often as with them."""
    return str(given) if isinstance(given, int) and not isinstance(given, bool) and 1000 <= given <= 9999 else given


def or_year(schema: dict[str, Any]) -> None:
    """A year is a whole number to editors."""
    schema["anyOf"] = [*schema["anyOf"], {"type": "integer", "minimum": 1000, "maximum": 9999}]


def switch(given: Any) -> Any:
    """``on`` and ``off`` in quotes, as ``on`` and ``off`` without, which YAML 1.1 reads as true and false."""
    return given == "on" if given in ("on", "off") else given


def or_switch(schema: dict[str, Any]) -> None:
    """``on`` and ``off`` are texts to editors that read YAML 1.2."""
    schema["anyOf"] = [{"type": schema.pop("type")}, {"enum": ["on", "off"]}]


def label(given: Any) -> Any:
    """A label that is a whole number, as the text that stands in the data."""
    return str(given) if isinstance(given, int) and not isinstance(given, bool) else given


def or_number(schema: dict[str, Any]) -> None:
    """Labels may be written as whole numbers."""
    schema["items"] = {"anyOf": [schema["items"], {"type": "integer"}]}
