"""A test replaces the clock of the module that it looks at (``support.clocks``), never that of all threads of its process."""

from __future__ import annotations

import ast
import time
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]


def replaces_the_clock(node: ast.AST) -> bool:
    """Whether it is ``setattr(time, "sleep", …)``, ``setattr(module.time, …)`` or ``setattr("time.sleep", …)``."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.func.attr != "setattr" or not node.args:
        return False
    place = node.args[0]
    if isinstance(place, ast.Constant):
        return isinstance(place.value, str) and place.value.rpartition(".")[0].rpartition(".")[2] == time.__name__
    name = place.attr if isinstance(place, ast.Attribute) else getattr(place, "id", None)
    return name == time.__name__


def test_no_test_replaces_the_clock_of_other_threads() -> None:
    found = {
        path.name
        for path in TESTS.rglob("*.py")
        if any(replaces_the_clock(node) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert found == set()


@pytest.mark.parametrize("place", ["time", "webhook.time", "tailorbird.integrations.webhook.time"])
def test_a_replaced_clock_is_recognised(place: str) -> None:
    calls = f'patch.setattr({place}, "sleep", look)', f'patch.setattr("{place}.sleep", look)'
    assert all(any(map(replaces_the_clock, ast.walk(ast.parse(call)))) for call in calls)
