"""Schema of the objective: plain data validated with lines and nearest valid values, and the JSON Schema for editors.

The JSON Schema refuses nothing that the reader takes; the reader refuses more: metrics without data, targets that cannot be proven.
"""

from __future__ import annotations

import json
import re
from datetime import date, datetime
from typing import Any, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tailorbird.domain.identity import Role
from tailorbird.domain.objective import Objective, TaskKind
from tailorbird.domain.value import Value
from tailorbird.evaluation.metrics import CATALOGUE, AnswerKinds, MetricSpec
from tailorbird.objective.objective_file import EXAMPLE, MOST_FAULTS, PLACEHOLDER, Fault, nearest_line
from tailorbird.text.words import nearest


def _sections(kind: type[Value], path: str) -> dict[str, type[Value]]:
    """Which value stands at which path (``*`` is any index)."""
    found = {path: kind}
    for name, field in kind.model_fields.items():
        below = f"{path}.{name}" if path else name
        for value, many in _values_in(field.annotation):
            found |= _sections(value, f"{below}.*" if many else below)
    return found


def _values_in(annotation: Any) -> list[tuple[type[Value], bool]]:
    if isinstance(annotation, type) and issubclass(annotation, Value):
        return [(annotation, False)]
    many = get_origin(annotation) is tuple
    return [(value, many or inner) for part in get_args(annotation) for value, inner in _values_in(part)]


#: Where the known keys of a section are looked up.
SECTIONS = _sections(Objective, "")

_RANGE = ("greater_than", "less_than")

_MOMENT = "a day and time with its zone, such as 2026-11-29T06:00:00+00:00"
_WANTED = {
    "string_type": "a text",
    "float_type": "a number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "date_type": "a date",
    "date_parsing": "a date",
    "date_from_datetime_parsing": "a date",
    "date_from_datetime_inexact": "a date",
    "timezone_aware": _MOMENT,
    "datetime_type": _MOMENT,
    "datetime_parsing": _MOMENT,
    "datetime_from_date_parsing": _MOMENT,
    "tuple_type": "a list",
    "dict_type": "a section with a number a metric",
    "model_type": "a section with keys of its own",
    "model_attributes_type": "a section with keys of its own",
}


def objective_from(data: Any, lines: dict[str, int]) -> tuple[Objective | None, list[Fault]]:
    """The objective that ``data`` describes, or what is wrong with it."""
    try:
        return Objective.model_validate_json(json.dumps(data, default=_written), strict=True), []
    except ValidationError as error:
        return None, _faults(error.errors(include_url=False), data, lines)


def _written(value: date) -> str:
    """A date as the file means it: of a moment whose zone is told all counts, of any other its day."""
    return value.isoformat() if isinstance(value, datetime) and value.tzinfo is not None else date.isoformat(value)


def _faults(errors: list[ErrorDetails], data: Any, lines: dict[str, int]) -> list[Fault]:
    """One fault a place. Complaints about a whole follow from those about its parts and are left out."""
    places: dict[str, list[ErrorDetails]] = {}
    # Some of those that are told, and more where they are about one place: the rest would cost time and help nobody.
    for error in errors[: 10 * MOST_FAULTS]:
        places.setdefault(_path(error, lines), []).append(error)
    telling = {path: found for path, found in places.items() if not any(other.startswith(f"{path}.") for other in places)}
    return [_fault(path, found, data, nearest_line(lines, path)) for path, found in telling.items()]


def _path(error: ErrorDetails, lines: dict[str, int]) -> str:
    """Where in the file the error is. ``loc`` also names branches of unions, which are no keys of the file."""
    path, last = "", len(error["loc"]) - 1
    for position, part in enumerate(error["loc"]):
        below = f"{path}.{part}" if path else str(part)
        if below in lines or (error["type"] == "missing" and position == last):
            path = below
    return path


def _fault(path: str, errors: list[ErrorDetails], data: Any, line: int) -> Fault:
    error = next((error for error in errors if error["type"].startswith(_RANGE)), errors[0])
    kind = error["type"]
    if kind == "extra_forbidden":
        section, key = _section_and_key(path)
        known = tuple(SECTIONS[section].model_fields)
        near = nearest(key, known)
        if near is None:
            return Fault(line, f"unknown key `{path}`", f"{_home_of(key)}known keys here: {', '.join(known)}")
        return Fault(line, f"unknown key `{path}`", f"did you mean `{near}`? known keys here: {', '.join(known)}")
    if kind == "missing":
        return _missing_key(path, line)
    given, context = _given(data, path), error.get("ctx", {})
    if kind in ("enum", "literal_error") and isinstance(given, str) and len(errors) == 1:
        return _not_one_of(path, given, _expected(error), line)
    if kind == "string_pattern_mismatch":
        return _bad_name(path, str(given), line)
    if kind.startswith(_RANGE):
        return _out_of_range(path, given, context, line)
    if kind in ("string_too_short", "too_short"):
        return Fault(line, f"`{path}` must not be empty", "write at least one" if kind == "too_short" else "write what is meant")
    # Each error is the complaint of one branch of a union, and so names one thing that would have been right.
    wanted = [_WANTED.get(error["type"]) or " or ".join(_expected(error)) for error in errors]
    listed = " or ".join(dict.fromkeys(word for word in wanted if word))
    where = f"`{path}`" if path else "the objective"
    return Fault(line, f"{where} must be {listed}, not {_described(given)}", _type_hint(listed, given))


def _expected(error: ErrorDetails) -> list[str]:
    """The values that an enum or a literal takes."""
    return re.findall(r"'([^']*)'", str(error.get("ctx", {}).get("expected", "")))


def _section_and_key(path: str) -> tuple[str, str]:
    """The innermost section of ``path`` and the rest, which is the unknown key: a key may hold dots of its own."""
    words = path.split(".")
    for depth in range(len(words) - 1, 0, -1):
        section = re.sub(r"\.\d+", ".*", ".".join(words[:depth]))
        if section in SECTIONS:
            return section, ".".join(words[depth:])
    return "", path


def _home_of(key: str) -> str:
    """Where in the file ``key`` would be known."""
    for section, value in SECTIONS.items():
        if key in value.model_fields:
            return f"`{key}` belongs under `{section.removesuffix('.*')}`; " if section else f"`{key}` belongs at the top level; "
    return ""


def _missing_key(path: str, line: int) -> Fault:
    parent, _, key = path.rpartition(".")
    where = f"`{parent}`" if parent else "the objective"
    return Fault(line, f"{where} lacks the key `{key}`", f"add `{key}:` here; {EXAMPLE}")


def _not_one_of(path: str, given: str, allowed: list[str], line: int) -> Fault:
    near = nearest(given.casefold(), allowed)
    choices = ", ".join(allowed)
    return Fault(line, f"`{path}` cannot be {given!r}", f"did you mean {near!r}? one of: {choices}" if near else f"use one of: {choices}")


def _bad_name(path: str, given: str, line: int) -> Fault:
    near = re.sub(r"[^a-z0-9._-]+", "-", given.casefold()).strip("-._")[:63]
    message = f"`{path}` must be a name of lower-case letters, digits, '.', '_' and '-', at most 63 characters"
    return Fault(line, message, f"write {near!r}" if near else "for instance: support-desk")


def _out_of_range(path: str, given: Any, context: dict[str, Any], line: int) -> Fault:
    words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    bound, limit = next((words[key], context[key]) for key in words if key in context)
    near = f"the nearest valid value is {limit:g}" if bound.startswith("at") else f"write a number that is {bound} {limit:g}"
    return Fault(line, f"`{path}` must be {bound} {limit:g}, not {given}", near)


def _given(data: Any, path: str) -> Any:
    for part in path.split(".") if path else []:
        data = data[int(part)] if isinstance(data, list) else data[part]
    return data


def _described(given: Any) -> str:
    if given is None:
        return "empty"
    words = {dict: "a section", list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}
    return (words | {date: "a date", datetime: "a time"}).get(type(given), "that")


def _type_hint(wanted: str, given: Any) -> str:
    if "a text" in wanted.split(" or ") and isinstance(given, bool | int | float | date):
        return "put the value in quotes: YAML reads it as something other than text (yes, no, on, off, dates and numbers)"
    if "number" in wanted and isinstance(given, str):
        return "write a plain number, without quotes, units or %; 1e-3 is written 0.001"
    return f"write {wanted} here; {EXAMPLE}"


#: What editors understand best. All that is used here means the same in later drafts.
_DRAFT = "http://json-schema.org/draft-07/schema#"

_DECIDING = (Role.APPROVER.value, Role.REVIEWER.value)

Json = dict[str, Any]


def objective_schema() -> Json:
    """The JSON Schema (draft 7) of an objective file."""
    schema: Json = _told(Objective.model_json_schema())
    properties, definitions = schema["properties"], schema["$defs"]
    properties["ladder"]["anyOf"][1] |= {"minItems": 1, "uniqueItems": True}
    properties["floor"] = {
        "anyOf": [{"const": "reference"}, {"$ref": properties["floor"]["$ref"]}],
        "description": properties["floor"]["description"],
    }
    properties["approvals"]["anyOf"][1]["items"]["enum"] = list(_DECIDING)
    properties["tenant"] = {"anyOf": [{"const": PLACEHOLDER}, properties["tenant"]], "description": properties["tenant"].pop("description")}
    # A target is a share, or at most as many nats as the catalogue says.
    kpi = definitions["Kpi"]
    highest = {spec.name: spec.highest for spec in CATALOGUE.values() if spec.highest > 1}
    kpi["properties"]["target"]["exclusiveMinimum"] = 0
    kpi["properties"]["metric"]["anyOf"] = [_metric(spec) for spec in CATALOGUE.values()]
    kpi["if"] = {"properties": {"metric": {"enum": list(highest)}}}
    kpi["then"] = {"properties": {"target": {"maximum": max(highest.values())}}}
    kpi["else"] = {"properties": {"target": {"maximum": 1}}}
    properties["compare_on"]["anyOf"] = [*(_metric(spec) for spec in CATALOGUE.values() if spec.compared), {"type": "null"}]
    for branch in (properties["margin"]["anyOf"][0], properties["margin"]["anyOf"][1]["additionalProperties"]):
        branch["maximum"] = max(spec.highest for spec in CATALOGUE.values()) / 2
    return {"$schema": _DRAFT, "title": "tailorbird objective"} | schema | {"allOf": [_metrics_fit(answers) for answers in AnswerKinds]}


def _told(part: Any) -> Any:
    """Descriptions as running text; pydantic's titles only repeat the keys."""
    if isinstance(part, list):
        return [_told(item) for item in part]
    if not isinstance(part, dict):
        return part
    told = {key: _told(value) for key, value in part.items() if not (key == "title" and isinstance(value, str))}
    if isinstance(text := told.get("description"), str):
        told["description"] = " ".join(text.replace("``", "`").split())
    return told


def _metric(spec: MetricSpec) -> Json:
    name: Json = {"pattern": rf"^{spec.name}\[[\s\S]+\]$"} if spec.labelled else {"const": spec.name}
    return name | {"description": spec.description}


def _metrics_fit(answers: AnswerKinds) -> Json:
    """Which metrics a task may name depends on what it answers with."""
    kind, labels = {
        AnswerKinds.LABEL: (TaskKind.CLASSIFY, "one"),
        AnswerKinds.LABELS: (TaskKind.CLASSIFY, "many"),
        AnswerKinds.TEXT: (TaskKind.GENERATE, "one"),
        AnswerKinds.RANKING: (TaskKind.RANK, "one"),
    }[answers]
    required = ["kind", "labels"] if labels == "many" else ["kind"]
    task = {"properties": {"kind": {"const": kind.value}, "labels": {"const": labels}}, "required": required}
    fitting = [_metric(spec) for spec in CATALOGUE.values() if answers in spec.answers]
    return {
        "if": {"properties": {"task": task}, "required": ["task"]},
        "then": {"properties": {"kpis": {"items": {"properties": {"metric": {"anyOf": fitting}}}}}},
    }
