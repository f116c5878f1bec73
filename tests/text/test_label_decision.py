"""From scores to an answer: one label by the best score, several by what all sets say together."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.domain.prompt import PromptSpec
from tailorbird.text.label_rules import THRESHOLD, decide_label, split

ONE = PromptSpec(instruction="x", labels=("a", "b", "c"))
MANY = PromptSpec(instruction="x", labels=("a", "b", "c"), label_sets=("a", "a | b", "c", "none"))


def logs(*probabilities: float) -> list[float]:
    return [math.log(p) for p in probabilities]


def test_one_label_is_the_likeliest_and_the_first_of_equals() -> None:
    assert decide_label(ONE, logs(0.2, 0.5, 0.3)).answer == "b"
    assert decide_label(ONE, logs(0.4, 0.4, 0.2)).answer == "a"


def test_several_labels_are_those_that_the_sets_agree_on() -> None:
    found = decide_label(MANY, logs(0.3, 0.4, 0.1, 0.2))
    assert found.answer == "a"
    assert found.probabilities == pytest.approx({"a": 0.7, "b": 0.4, "c": 0.1})
    assert decide_label(MANY, logs(0.1, 0.6, 0.1, 0.2)).answer == "a | b"
    assert decide_label(MANY, logs(0.2, 0.1, 0.1, 0.6)).answer == "none"


@given(st.lists(st.floats(0.01, 1.0), min_size=4, max_size=4))
def test_a_label_is_given_exactly_at_the_threshold(weights: list[float]) -> None:
    found = decide_label(MANY, [math.log(w / sum(weights)) for w in weights])
    assert set(split(found.answer)) == {label for label, p in found.probabilities.items() if p >= THRESHOLD}
    assert all(0 <= p <= 1 for p in found.probabilities.values())
