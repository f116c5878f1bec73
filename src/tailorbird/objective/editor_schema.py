"""The objective as a JSON Schema, for editors: keys, values and ranges are completed and checked while somebody writes.

It refuses nothing that the reader takes; the reader refuses more: metrics without data, targets that cannot be proven.
"""

from __future__ import annotations

from typing import Any

from tailorbird.domain.identity import Role
from tailorbird.domain.objective import Objective, TaskKind
from tailorbird.objective.kpi_catalogue import CATALOGUE, AnswerKinds, MetricSpec
from tailorbird.stats.metric_direction import MEASURES

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
    _tell_targets(definitions["Kpi"])
    properties["compare_on"]["anyOf"] = [*map(_metric, CATALOGUE.values()), {"type": "null"}]
    for branch in (properties["margin"]["anyOf"][0], properties["margin"]["anyOf"][1]["additionalProperties"]):
        branch["maximum"] = max(measure.highest for measure in MEASURES.values()) / 2
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


def _tell_targets(kpi: Json) -> None:
    """A target is a share, or at most as many nats as the catalogue says."""
    highest = {spec.name: spec.highest for spec in CATALOGUE.values() if spec.highest > 1}
    kpi["properties"]["target"]["exclusiveMinimum"] = 0
    kpi["properties"]["metric"]["anyOf"] = [_metric(spec) for spec in CATALOGUE.values()]
    kpi["if"] = {"properties": {"metric": {"enum": list(highest)}}}
    kpi["then"] = {"properties": {"target": {"maximum": max(highest.values())}}}
    kpi["else"] = {"properties": {"target": {"maximum": 1}}}


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
