"""An objective that is too large, too deep or wrong in too many places is refused before it has cost anything."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailorbird.domain.errors import ObjectiveInvalid
from tailorbird.objective.reader import MAX_BYTES, parse_objective

MOST = MAX_BYTES - 100
LARGE = {
    "a list in one line": "[" + "a," * (MOST // 2 - 2) + "]",
    "lists in lists": "[" * MOST,
    "sections in sections": "{a: " * (MOST // 4),
    "aliases": "a: &a [1]\nb: [" + "*a," * (MOST // 4) + "]",
    "one key a line": "".join(f"k{i}: 1\n" for i in range(MOST // 10)),
    "unknown keys": "".join(f"nam{i}: 1\n" for i in range(9000)),
    "unknown keys in a list": "kpis:\n" + "".join(f"  - {{metrik{i}: 1, tarket: 2}}\n" for i in range(3000)),
    "keys that are asked for": "? a\n" * (MOST // 4),
    "tags": "- !!str a\n" * (MOST // 10),
}


@pytest.mark.parametrize("kind", LARGE)
def test_what_is_too_much_is_refused_soon_and_in_few_words(kind: str) -> None:
    started = time.process_time()
    with pytest.raises(ObjectiveInvalid) as refused:
        parse_objective(LARGE[kind], "objective.yaml")
    assert time.process_time() - started < 4
    assert len(str(refused.value)) < 20_000


@pytest.mark.parametrize(
    "line",
    [
        "seed: 0x" + "f" * 5000,
        "seed: 0b" + "1" * 70,
        "seed: 99999999999999999999",
        'seed: !!int ""',
        'margin: !!float ""',
        "list: !!bool x",
        "list: !!timestamp x",
        "list: 0001-01-01T00:00:00+23:59",
        'name: "\\ud800"',
        'name: "\\0"',
        '"\\0": 1',
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


@settings(max_examples=150, deadline=None)
@given(st.lists(_WORD | _GLUE | st.text(max_size=3), max_size=25).map("".join))
def test_whatever_stands_in_the_file_it_is_refused_as_an_objective(text: str) -> None:
    with pytest.raises(ObjectiveInvalid):
        parse_objective(text, "objective.yaml")
