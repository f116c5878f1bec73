"""Submitted objectives are read by a confined process: the same objective, the same refusals, and nobody else waits."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from tailorbird.domain.errors import ObjectiveInvalid
from tailorbird.objective import parse_objective, parse_submitted

WHOLE = (Path(__file__).resolve().parents[2] / "examples" / "support_desk" / "objective.yaml").read_text(encoding="utf-8")


def test_the_same_objective_is_read() -> None:
    assert parse_submitted(WHOLE, "objective.yaml") == parse_objective(WHOLE, "objective.yaml")


@pytest.mark.parametrize("text", ["a: [1,", "name: desk\nnmae: desk\n", "k: 1\n" * 9000, "a: \ud800", "", "x" * 300_000])
def test_it_is_refused_as_by_the_process_itself(text: str) -> None:
    with pytest.raises(ObjectiveInvalid) as here:
        parse_objective(text, "objective.yaml")
    with pytest.raises(ObjectiveInvalid) as there:
        parse_submitted(text, "objective.yaml")
    assert (there.value.message, there.value.hint) == (here.value.message, here.value.hint)
    assert (there.value.error_code, there.value.line) == (here.value.error_code, here.value.line)


def test_the_largest_takes_no_time_of_this_process() -> None:
    """In the gateway it took most of a second of the interpreter: with three at once, an answer that took 8 ms took 880."""
    content = yaml.safe_load(WHOLE) | {"kpis": [{"metric": f"recall[l{n}]", "target": 0.5, "because": "x"} for n in range(2400)]}
    text = yaml.safe_dump(content, sort_keys=False)
    parse_submitted(WHOLE, "objective.yaml")
    started = time.process_time()
    assert len(parse_submitted(text, "objective.yaml").objective.kpis) == 2400
    took, started = time.process_time() - started, time.process_time()
    yaml.safe_load(text)
    assert took < (time.process_time() - started) / 2, "less than reading the YAML alone takes here, whatever the machine"
