"""Reader of ``traffic.yaml``: the traffic of a serving plan, or an error with the faulty line."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from tailorbird.domain.errors import InvalidInput, ObjectiveInvalid
from tailorbird.domain.serving_traffic import ServingTraffic
from tailorbird.objective.objective_file import nearest_line, read_tree
from tailorbird.text.normalisation import nearest

#: A file larger than this (bytes) is not read.
MAX_BYTES = 1 << 18
_EXAMPLE = "docs/planning.md shows a whole file"


def read_traffic(path: Path) -> ServingTraffic:
    """The traffic in the file ``path``. Raises InvalidInput (``traffic_invalid``), with the line."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise _invalid(f"{path}: cannot be read: {error.strerror}", "give the path of a traffic.yaml") from error
    except UnicodeDecodeError as error:
        raise _invalid(f"{path}: not UTF-8 text", "save the file as UTF-8") from error
    if len(data) > MAX_BYTES:
        raise _invalid(f"{path}: larger than 256 KiB", "traffic is a page of text")
    return parse_traffic(text, str(path))


def parse_traffic(text: str, source: str) -> ServingTraffic:
    """The traffic in ``text``; ``source`` is the file's name for errors. Raises as ``read_traffic``."""
    try:
        tree = read_tree(text, source)
    except ObjectiveInvalid as error:
        raise _invalid(error.message, error.hint) from error
    if tree.faults:
        raise _invalid(f"{source}:{tree.faults[0].line}: {tree.faults[0].message}", tree.faults[0].hint)
    if not isinstance(tree.value, dict):
        raise _invalid(f"{source}:1: no keys", _EXAMPLE)
    try:
        return ServingTraffic.model_validate_json(json.dumps(tree.value, default=date.isoformat), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = ".".join(str(part) for part in first["loc"])
        line = nearest_line(tree.lines, path)
        where = f"`{path}`: " if path else ""
        raise _invalid(f"{source}:{line}: {where}{_said(first['msg'])}", _hint(first["type"], path), path) from error


def _said(message: str) -> str:
    return message.removeprefix("Value error, ")[:400]


def _hint(kind: str, path: str) -> str:
    section, _, key = path.rpartition(".")
    known = _keys(section)
    if kind == "extra_forbidden" and known:
        near = nearest(key, known)
        guess = f"did you mean `{near}`? " if near else ""
        return f"{guess}known keys here: {', '.join(known)}"
    return f"add `{key}:` here; {_EXAMPLE}" if kind == "missing" else _EXAMPLE


def _keys(section: str) -> tuple[str, ...]:
    """Keys of a section by its dotted path."""
    value: Any = ServingTraffic
    for part in section.split(".") if section else []:
        field = value.model_fields.get(part) if isinstance(value, type) and issubclass(value, BaseModel) else None
        value = next((one for one in (field.annotation, *_parts(field.annotation)) if _is_section(one)), None) if field else None
    return tuple(value.model_fields) if _is_section(value) else ()


def _parts(annotation: Any) -> tuple[Any, ...]:
    return getattr(annotation, "__args__", ())


def _is_section(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseModel)


def _invalid(message: str, hint: str, param: str | None = None) -> InvalidInput:
    return InvalidInput(message, hint, code="traffic_invalid", param=param)
