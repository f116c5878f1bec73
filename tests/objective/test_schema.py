"""The table of sections follows the domain: every section of an objective has its known keys."""

from __future__ import annotations

import copy
import json
from datetime import date
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.domain.errors import ObjectiveInvalid
from tailorbird.evaluation.metrics import CATALOGUE
from tailorbird.objective import TEMPLATES, objective_schema, parse_objective, template_files

ROOT = Path(__file__).resolve().parents[2]


SCHEMA = objective_schema()


VALIDATOR = jsonschema_rs.Draft7Validator(SCHEMA)


#: Every objective among the examples; plans of rollouts lie beside them.
EXAMPLES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in sorted(ROOT.glob("examples/**/*.yaml"))
    if path.name != "rollout.yaml"
}


TEXTS = EXAMPLES | {name: template_files(name)["objective.yaml"] for name in TEMPLATES}


def plain(text: str) -> Any:
    return json.loads(json.dumps(yaml.safe_load(text), default=date.isoformat))


def read(value: Any) -> ObjectiveInvalid | None:
    """What the reader says of ``value`` written as JSON, which is YAML."""
    try:
        parse_objective(json.dumps(value), "o.yaml")
    except ObjectiveInvalid as error:
        return error
    return None


def changed(path: str, value: Any) -> Any:
    """The template for classifying with another value at ``path``."""
    whole = plain(TEXTS["classify"])
    *above, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    part = whole
    for key in above:
        part = part[key]
    part[last] = value
    return whole


@pytest.mark.parametrize("name", TEXTS)
def test_every_objective_of_the_project_is_valid(name: str) -> None:
    assert len(EXAMPLES) >= 1
    VALIDATOR.validate(plain(TEXTS[name]))


def test_the_schema_is_one_and_says_what_each_key_is_for() -> None:
    jsonschema_rs.meta.validate(SCHEMA)
    for name, part in {"": SCHEMA, **{name: part for name, part in SCHEMA["$defs"].items() if "properties" in part}}.items():
        assert part["additionalProperties"] is False
        assert part["description"]
        for key, value in part["properties"].items():
            assert len(value.get("description", "")) > 10, f"{name}.{key}"
            assert "``" not in value["description"]


def test_every_metric_is_on_offer() -> None:
    for spec in CATALOGUE.values():
        metric = f"{spec.name}[some label]" if spec.labelled else spec.name
        assert jsonschema_rs.is_valid(SCHEMA["$defs"]["Kpi"], {"metric": metric, "target": 0.5})


REFUSED = [
    ("nmae", "x"),
    ("name", "Two Words"),
    ("business.risk", "medium"),
    ("task.kind", "sort"),
    ("data", []),
    ("data.0.split", "validation"),
    ("kpis", []),
    ("kpis.0.metric", "acuracy"),
    ("kpis.0.metric", "recall"),
    ("kpis.0.metric", "recall[]"),
    ("kpis.0.metric", "accuracy[x]"),
    ("kpis.0.metric", "token_f1"),
    ("kpis.0.target", 0),
    ("kpis.0", {"metric": "log_loss", "target": 101}),
    ("task", {"kind": "classify", "labels": "many", "instruction": "i"}),
    ("limits.latency_p95_ms", {"max": 0}),
    ("limits.retention", {"max_drop": 1.5}),
    ("margin", True),
    ("budget.memory_gb", "lots"),
    ("ladder", []),
    ("approvals", ["operator"]),
    ("full", {"epochs": 0}),
    ("lora", {"learning_rate": 1}),
]


@pytest.mark.parametrize(("path", "value"), REFUSED)
def test_what_the_schema_refuses_the_reader_refuses(path: str, value: Any) -> None:
    whole = changed(path, value)
    assert not VALIDATOR.is_valid(whole)
    assert read(whole) is not None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("kpis.0", {"metric": "recall[lost item]", "target": 1}),
        ("kpis.0", {"metric": "log_loss", "target": 2.5}),
        ("ladder", ["prompt", "full"]),
        ("limits", {"latency_p95_ms": None}),
        ("data.0.source", {"origin": "x", "license": "y", "collected": "2025-01-31"}),
    ],
)
def test_what_the_reader_takes_the_schema_takes(path: str, value: Any) -> None:
    whole = changed(path, value)
    assert read(whole) is None
    VALIDATOR.validate(whole)


PATHS = [*(path for path, _ in REFUSED), "tenant", "data.0", "data.0.path", "kpis.0.because", "limits", "budget", "base_model"]


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 200)
    | st.floats(-1, 2).filter(lambda number: "e" not in repr(number))  # YAML 1.1 takes 1e-9 for a text
    | st.sampled_from(["auto", "one", "many", "classify", "rank", "accuracy", "f1[x]", "a", "", "train", "prompt", "approver"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["max", "metric", "target", "kind", "path", "x"]), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(st.lists(st.tuples(st.sampled_from(PATHS), VALUES), min_size=1, max_size=2), st.booleans())
def test_whatever_the_schema_refuses_the_reader_refuses(changes: list[tuple[str, Any]], remove: bool) -> None:
    whole = plain(TEXTS["classify"])
    for path, value in changes:
        whole = with_change(whole, path, value, remove)
    if read(whole) is None:
        VALIDATOR.validate(whole)


def with_change(whole: Any, path: str, value: Any, remove: bool) -> Any:
    """``whole`` with the value at ``path`` replaced or removed; as it is where an earlier change left no such place."""
    whole = copy.deepcopy(whole)
    *above, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    try:
        part = whole
        for key in above:
            part = part[key]
        if remove:
            del part[last]
        else:
            part[last] = value
    except (KeyError, IndexError, TypeError):
        pass
    return whole
