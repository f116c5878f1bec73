"""Submitted objectives are read by a confined process: the same objective, the same refusals, and nobody else waits."""

from __future__ import annotations

from pathlib import Path

import pytest

from tailorbird.domain.errors import ObjectiveInvalid
from tailorbird.objective import parse_objective, parse_submitted

WHOLE = (Path(__file__).resolve().parents[2] / "examples" / "support_desk" / "objective.yaml").read_text(encoding="utf-8")


def test_the_same_objective_is_read() -> None:
    assert parse_submitted(WHOLE, "objective.yaml") == parse_objective(WHOLE, "objective.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "a: [1,",
        "name: desk\nnmae: desk\n",
        "a: \ud800",
    ],
)
def test_it_is_refused_as_by_the_process_itself(text: str) -> None:
    with pytest.raises(ObjectiveInvalid) as here:
        parse_objective(text, "objective.yaml")
    with pytest.raises(ObjectiveInvalid) as there:
        parse_submitted(text, "objective.yaml")
    assert (there.value.message, there.value.hint) == (here.value.message, here.value.hint)
    assert (there.value.error_code, there.value.line) == (here.value.error_code, here.value.line)
