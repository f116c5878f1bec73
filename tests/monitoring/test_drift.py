"""Tests of drift: the false alarm rate holds, what has changed is found, and the effect does not come from the number of items."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from support.monitoring import TOPICS, messages
from tailorbird.domain.errors import InvalidInput
from tailorbird.monitoring.drift import DriftTest, class_drift, holm, length_drift, text_drift
from tailorbird.monitoring.sketch import sketch

ALL = tuple(TOPICS)


def sketches(topics: tuple[str, ...], n: int, seed: int) -> list[str]:
    return [sketch(text) for text, _ in messages(topics, n, seed)]


def text_null(seed: int) -> DriftTest:
    pool = sketches(ALL, 60, seed)
    return text_drift(pool[:35], pool[35:], seed)


def length_null(seed: int) -> DriftTest:
    generator = np.random.default_rng(seed)
    return length_drift(generator.geometric(0.02, 60).tolist(), generator.geometric(0.02, 40).tolist())


def class_null(seed: int) -> DriftTest:
    """Thirty classes, most of them seldom seen: where the χ² approximation fails."""
    generator = np.random.default_rng(seed)
    shares = np.arange(1, 31) / np.arange(1, 31).sum()
    expected, live = (Counter(map(str, generator.choice(30, n, p=shares))) for n in (120, 60))
    return class_drift(expected, live, seed)


@pytest.mark.parametrize("null", [text_null, length_null, class_null])
def test_false_alarms_are_as_rare_as_said(null: Callable[[int], DriftTest]):
    """At most α of 300 looks without drift, within what chance allows once in 10,000 times."""
    p_values = np.array([null(seed).p_value for seed in range(300)])
    for alpha in (0.01, 0.05, 0.2, 0.5):
        assert np.sum(p_values <= alpha) <= stats.binom.ppf(1 - 1e-4, 300, alpha)


def test_a_new_topic_is_found_in_the_text():
    found = text_drift(sketches(ALL[:2], 200, 1), sketches(ALL[2:], 100, 2), seed=3)
    assert found.p_value == 0.001
    assert found.effect > 0.7
    assert (found.n_reference, found.n_live) == (200, 100)


def test_a_class_that_nobody_expected_is_found_and_finite():
    found = class_drift({"a": 100}, {"a": 60, "new": 40}, seed=1)
    assert found.p_value == 0.001
    assert math.isfinite(found.effect)


def test_the_class_test_agrees_with_fisher_where_there_are_two_classes():
    exact = stats.fisher_exact([[30, 10], [20, 22]]).pvalue
    assert class_drift({"a": 30, "b": 10}, {"a": 20, "b": 22}, seed=1).p_value == pytest.approx(exact, abs=0.02)


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 30)), st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 30)))
def test_any_counts_give_a_p_value_and_an_effect_or_a_refusal(expected: dict[str, int], live: dict[str, int]):
    if min(sum(expected.values()), sum(live.values())) < 2:
        with pytest.raises(InvalidInput):
            class_drift(expected, live, seed=1)
    else:
        found = class_drift(expected, live, seed=1)
        assert 0.001 <= found.p_value <= 1
        assert 0 <= found.effect < math.inf


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))
    assert holm([0.9, 0.6]) == (1.0, 1.0)
    assert holm([]) == ()
