"""Whatever an operation of the API takes, the command line and the Python API offer where they ask for it."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import pytest

import tailorbird
from tailorbird.usecases.registry import use_cases

#: Parameters that are left out, and why.
LEFT_OUT = {
    ("cli", "audit.inclusion"): {"size"},  # the log as it stands
    ("cli", "data.suspects"): {"limit"},  # the likeliest; asked again, the next ones
    ("cli", "run.list"): {"skip"},  # --limit shows as many
    ("cli", "release.list"): {"skip"},
}


def offered(package: str) -> dict[str, set[str] | None]:
    """By operation, the parameters with which the package asks for it by name; None where it hands over a value that has them all."""
    names = {case.function.__name__: case.name for case in use_cases()}
    found: dict[str, set[str]] = defaultdict(set)
    whole = set[str]()
    for path in (Path(tailorbird.__file__).parent / package).rglob("*.py"):
        for call in (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)):
            called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            place = {"ask": 0, "ask_as": 1, "list_verb": 1}.get(called)
            if place is None or len(call.args) <= place:
                continue
            asked = call.args[place]
            name = names.get(asked.attr if isinstance(asked, ast.Attribute) else getattr(asked, "id", ""))
            if name and called == "list_verb":
                found[name] |= {"limit" for keyword in call.keywords if keyword.arg == "newest"}
            elif name and (len(call.args) > place + 1 or any(keyword.arg is None for keyword in call.keywords)):
                whole.add(name)
            elif name:
                found[name] |= {str(keyword.arg) for keyword in call.keywords}
    return {name: None if name in whole else found[name] for name in {*found, *whole}}


@pytest.mark.parametrize("package", ["cli", "sdk"])
def test_every_parameter_of_an_operation_is_offered(package: str) -> None:
    takes = {case.name: set(case.request.model_fields) for case in use_cases()}
    asked = offered(package)
    assert len(asked) >= 8
    missing = {name: takes[name] - given for name, given in asked.items() if given is not None}
    assert {(package, name): left for name, left in missing.items() if left} == {
        key: left for key, left in LEFT_OUT.items() if key[0] == package
    }
