"""An objective that is too large, too deep or wrong in too many places is refused before it has cost anything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.domain.errors import ObjectiveInvalid
from tailorbird.objective.reader import MAX_BYTES, parse_objective

MOST = MAX_BYTES - 100
LARGE = {
    "lists in lists": "[" * MOST,
    "aliases": "a: &a [1]\nb: [" + "*a," * (MOST // 4) + "]",
    "one key a line": "".join(f"k{i}: 1\n" for i in range(MOST // 10)),
    "unknown keys in a list": "kpis:\n" + "".join(f"  - {{metrik{i}: 1, tarket: 2}}\n" for i in range(3000)),
}


@pytest.mark.parametrize("kind", LARGE)
def test_what_is_too_much_is_refused_soon_and_in_few_words(kind: str) -> None:
    with pytest.raises(ObjectiveInvalid) as refused:
        parse_objective(LARGE[kind], "objective.yaml")
    assert len(str(refused.value)) < 20_000


@pytest.mark.parametrize(
    "line",
    [
        "seed: 0x" + "f" * 5000,
        'name: "\\ud800"',
        "a: 1" + ":59" * 5000,
    ],
)
def test_values_that_nothing_can_hold_are_faults(line: str) -> None:
    with pytest.raises(ObjectiveInvalid) as refused:
        parse_objective(line, "objective.yaml")
    assert refused.value.line == 1
    assert len(str(refused.value)) < 20_000


_WORD = st.sampled_from(
    ["a", "1", "0x" + "f" * 30, "!!int", "!!float", "!!binary", "&a", "*a", "<<", "~", "2001-01-01", ".nan", "1:2:3", '"\\ud8"']
)
_GLUE = st.sampled_from([": ", "\n", "\n  ", "- ", "[", "]", "{", "}", ", ", "? ", "|\n", "---\n", "%YAML 1.1\n", "#", "'", '"', "\t", " "])


@given(st.lists(_WORD | _GLUE | st.text(max_size=3), max_size=25).map("".join))
def test_whatever_stands_in_the_file_it_is_refused_as_an_objective(text: str) -> None:
    with pytest.raises(ObjectiveInvalid):
        parse_objective(text, "objective.yaml")
