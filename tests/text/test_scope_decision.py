"""Whether a request is in scope: every score that can be told, and a rule that refuses what it cannot score."""

from __future__ import annotations

import math

import pytest

from tailorbird.domain.evidence import ScopeScorer
from tailorbird.domain.prompt import PromptSpec
from tailorbird.ports.engine import LabelScores
from tailorbird.text.label_rules import is_blank, left_out_labels, scope_scores

PROMPT = PromptSpec(instruction="-", labels=("a", "b", "c"))
SCORES = LabelScores(log_probabilities=tuple(map(math.log, (0.2, 0.7, 0.1))), prompt_tokens=0, latency_ms=1.0)


def test_scores_are_those_that_the_model_gives() -> None:
    found = scope_scores(PROMPT, SCORES)
    assert set(found) == {ScopeScorer.PROBABILITY, ScopeScorer.MARGIN}
    assert found[ScopeScorer.PROBABILITY] == pytest.approx(math.log(0.7))
    assert found[ScopeScorer.MARGIN] == pytest.approx(math.log(3.5))
    more = scope_scores(PROMPT, SCORES.model_copy(update={"energy": -2.0, "nearness": -0.5}))
    assert (more[ScopeScorer.ENERGY], more[ScopeScorer.NEARNESS]) == (-2.0, -0.5)
    assert more[ScopeScorer.BOTH] == pytest.approx(math.log(0.7) - 2.5)


@pytest.mark.parametrize("count", [3, 77])
def test_each_label_is_left_out_once_and_two_are_always_known(count: int) -> None:
    labels = [f"label {number}" for number in range(count)]
    parts = left_out_labels(labels)
    assert sorted(label for part in parts for label in part) == sorted(labels)
    assert all(2 <= count - len(part) < count for part in parts)
    assert parts == left_out_labels(labels[::-1])


def test_blank_is_what_nobody_sees_and_no_letter_that_this_python_does_not_know() -> None:
    assert all(is_blank(text) for text in ("", " \n\t", "\u200b\ufeff", "\u00a0"))
    assert not any(is_blank(text) for text in ("?", "\U0001fae8", "\U0001faf9 "))
