"""Objectives, and the other YAML that comes from elsewhere: a value, or an error with the line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from support.damage import damaged, ends_well, tries, values
from tailorbird.objective import parse_objective

WHOLE = (Path(__file__).resolve().parents[2] / "examples" / "support_desk" / "objective.yaml").read_bytes()
CONTENT: dict[str, Any] = yaml.safe_load(WHOLE)


@tries(40)
@given(data=damaged([WHOLE]))
def test_damaged_objectives(data: bytes) -> None:
    ends_well(lambda: parse_objective(data.decode("utf-8", "replace"), "objective.yaml"))


@tries(60)
@given(key=st.sampled_from(sorted(CONTENT)), value=values())
def test_values_where_others_belong(key: str, value: Any) -> None:
    try:
        text = yaml.safe_dump(CONTENT | {key: value}, allow_unicode=True)
    except (yaml.YAMLError, UnicodeError):
        return
    ends_well(lambda: parse_objective(text, "objective.yaml"))


@tries(40)
@given(text=st.text(alphabet="abc:-[]{}&*!|>%@`'\"#,? \n\t0123456789.~<=", max_size=200))
def test_text_that_looks_like_yaml(text: str) -> None:
    ends_well(lambda: parse_objective(text, "objective.yaml"))
