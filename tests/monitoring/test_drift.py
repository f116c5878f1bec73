"""Tests of drift: the false alarm rate holds, what has changed is found, and the effect does not come from the number of items."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

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


def test_a_larger_share_of_one_topic_is_found_in_most_looks():
    looks = [text_drift(sketches(ALL, 300, seed), sketches((*ALL, ALL[0], ALL[0]), 300, seed + 100), seed) for seed in range(10)]
    assert sum(look.p_value <= 0.05 for look in looks) >= 8


def test_texts_that_both_sides_hold_do_not_hide_or_feign_an_effect():
    """Half of the live texts stand in the reference too: the other half are as like it as they ever were."""
    effects = []
    for seed in range(40):
        pool = list(dict.fromkeys(sketches(ALL, 150, seed)))
        effects.append(text_drift(pool[:80], pool[50:110], seed).effect)
    assert np.mean(effects) == pytest.approx(0.5, abs=0.03)


def test_text_that_the_release_was_trained_on_against_text_of_another_business(test_data: Path):
    def of(path: str, column: str, n: int) -> list[str]:
        with (test_data / path).open(encoding="utf-8", newline="") as file:
            texts = sorted({row[column] for row in csv.DictReader(file)}, key=lambda text: sketch(text)[::-1])
        return [sketch(text) for text in texts[:n]]

    bank, shop = of("banking77/train.csv", "text", 600), of("bitext_support/bitext_27answers_6480.csv", "instruction", 300)
    assert text_drift(bank[::2], bank[1::2], 1).p_value > 0.01
    foreign = text_drift(bank[::2], shop, 1)
    assert foreign.p_value == 0.001
    assert foreign.effect > 0.8


def test_lengths_by_hand():
    found = length_drift([1, 2, 3, 4], [3, 4, 5, 6])
    assert found.effect == 0.5
    # Of the 70 ways to deal eight distinct ranks, those with D >= 1/2.
    assert found.p_value == pytest.approx(_ks_by_counting(4, 4, 0.5))


def _ks_by_counting(n: int, m: int, d: float) -> float:
    deals = set(permutations([0] * n + [1] * m))
    reached = 0
    for deal in deals:
        ones = np.cumsum(deal)
        gaps = np.abs(ones / m - (np.arange(1, n + m + 1) - ones) / n)
        reached += gaps.max() >= d - 1e-12
    return reached / len(deals)


def test_a_class_that_nobody_expected_is_found_and_finite():
    found = class_drift({"a": 100}, {"a": 60, "new": 40}, seed=1)
    assert found.p_value == 0.001
    assert math.isfinite(found.effect)


def test_the_class_test_agrees_with_fisher_where_there_are_two_classes():
    exact = stats.fisher_exact([[30, 10], [20, 22]]).pvalue
    assert class_drift({"a": 30, "b": 10}, {"a": 20, "b": 22}, seed=1).p_value == pytest.approx(exact, abs=0.02)


def test_many_classes_and_few_items_do_not_look_like_an_effect():
    """Raw, the index of 77 even classes on 100 items is above 0.5."""
    generator = np.random.default_rng(1)
    effects = [
        class_drift(Counter(map(str, generator.integers(0, 77, 1000))), Counter(map(str, generator.integers(0, 77, 100))), seed).effect
        for seed in range(30)
    ]
    assert np.mean(effects) < 0.1


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
