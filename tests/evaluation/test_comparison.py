"""Standings: planted effects are found, swapping mirrors, the order of items is nothing, and errors keep to their rate."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.evidence import Comparison, ItemResult, Metric, Standing
from tailorbird.evaluation.comparison import ComparisonRule, compare, shift_drop
from tailorbird.stats.intervals import score_interval

UPPER, LOWER = digest_bytes(b"upper"), digest_bytes(b"lower")


RULE = ComparisonRule(metric="accuracy", margin=0.02, confidence=0.90)


MIRRORED = {Standing.BETTER: Standing.WORSE, Standing.WORSE: Standing.BETTER}


def items(right: list[bool], groups: list[str] | None = None) -> list[ItemResult]:
    names = [digest_bytes(str(i).encode()) for i in range(len(right))]
    return [
        ItemResult(item=name, group=groups[i] if groups else name, target="a", prediction="a" if ok else "b", correct=ok)
        for i, (name, ok) in enumerate(zip(names, right, strict=True))
    ]


def planted(both: int, won: int, lost: int, neither: int) -> Comparison:
    upper = [True] * (both + won) + [False] * (lost + neither)
    lower = [True] * both + [False] * won + [True] * lost + [False] * neither
    return compare(UPPER, LOWER, items(upper), items(lower), RULE)


@pytest.mark.parametrize(
    ("counts", "standing"),
    [
        ((200, 60, 10, 30), Standing.BETTER),
        ((200, 10, 60, 30), Standing.WORSE),
        ((950, 4, 4, 42), Standing.TIE),
        ((400, 0, 0, 0), Standing.TIE),
        ((60, 8, 4, 28), Standing.NOT_PROVEN),
        ((20, 0, 0, 0), Standing.NOT_PROVEN),
    ],
)
def test_planted_effects_stand_as_they_should(counts: tuple[int, int, int, int], standing: Standing) -> None:
    found = planted(*counts)
    both, won, lost, neither = counts
    assert found.standing is standing
    assert (found.n, found.wins, found.losses) == (both + won + lost + neither, won, lost)
    assert found.difference == pytest.approx((won - lost) / found.n)
    assert (found.items_needed is None) == (standing is not Standing.NOT_PROVEN)


def test_p_value_is_exact_mcnemar() -> None:
    assert planted(60, 8, 2, 30).p_value == pytest.approx(2 * sum(math.comb(10, k) for k in range(3)) / 2**10)


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 8)), min_size=1, max_size=80), st.randoms(use_true_random=False))
def test_swapping_mirrors_and_order_is_nothing(drawn: list[tuple[bool, bool, int]], order: Random) -> None:
    groups = [f"g{g}" for _, _, g in drawn]
    upper, lower = items([u for u, _, _ in drawn], groups), items([v for _, v, _ in drawn], groups)
    found, swapped = compare(UPPER, LOWER, upper, lower, RULE), compare(LOWER, UPPER, lower, upper, RULE)
    assert (swapped.difference, swapped.low, swapped.high) == pytest.approx((-found.difference, -found.high, -found.low), abs=1e-9)
    assert (swapped.wins, swapped.losses, swapped.p_value) == (found.losses, found.wins, pytest.approx(found.p_value))
    assert swapped.standing is MIRRORED.get(found.standing, found.standing)
    order.shuffle(upper)
    order.shuffle(lower)
    assert compare(UPPER, LOWER, upper, lower, RULE) == found


def test_only_the_same_items_and_means_over_items_compare() -> None:
    with pytest.raises(InvalidInput) as caught:
        compare(UPPER, LOWER, items([True, False]), items([True]), RULE)
    assert caught.value.error_code == "invalid_input"
    with pytest.raises(InvalidInput):
        compare(UPPER, LOWER, [], [], RULE)
    for metric in ("latency_p95_ms", "cost_per_1k_requests", "micro_f1", "nonsense"):
        with pytest.raises(InvalidInput) as caught:
            compare(UPPER, LOWER, items([True]), items([True]), ComparisonRule(metric=metric))
        assert caught.value.error_code == "invalid_input"


def test_false_claims_keep_to_their_rate() -> None:
    """The true difference is the margin itself: "better" may be claimed in 5 % of runs at 90 % two-sided, and "tie" in as many."""
    generator = np.random.default_rng(31)
    standings = []
    for _ in range(600):
        draw = generator.choice(3, 400, p=[0.07, 0.05, 0.88])
        standings.append(compare(UPPER, LOWER, items(list(draw != 1)), items(list(draw != 0)), RULE).standing)
    assert standings.count(Standing.BETTER) <= 0.07 * 600
    assert standings.count(Standing.TIE) <= 0.07 * 600


def share(hits: int, n: int, name: str = "accuracy", confidence: float = 0.9) -> Metric:
    low, high = score_interval(hits / n, n, confidence)
    return Metric(name=name, value=hits / n, low=low, high=high, confidence=confidence, n=n, method="wilson", hits=hits)


@given(data=st.data(), n=st.integers(1, 300), m=st.integers(1, 300))
def test_the_interval_of_a_drop_holds_it(data: st.DataObject, n: int, m: int) -> None:
    one, other = data.draw(st.integers(0, n)), data.draw(st.integers(0, m))
    found = shift_drop(share(one, n), share(other, m))
    assert found.low <= found.value <= found.high
    assert found.n == m


@pytest.mark.parametrize(("usual", "shifted", "ends"), [((56, 70), (48, 80), (0.0524, 0.3339)), ((9, 10), (3, 10), (0.1705, 0.8090))])
def test_for_shares_it_is_newcombes_interval(usual: tuple[int, int], shifted: tuple[int, int], ends: tuple[float, float]) -> None:
    # Newcombe 1998, Statistics in Medicine 17:873, table II, method 10.
    found = shift_drop(share(*usual, confidence=0.95), share(*shifted, confidence=0.95))
    assert (found.low, found.high) == pytest.approx(ends, abs=5e-5)


@pytest.mark.parametrize(("usual", "shifted"), [(0.95, 0.85)])
def test_the_upper_end_lies_below_the_true_drop_no_oftener_than_promised(usual: float, shifted: float) -> None:
    random, draws, n, m = np.random.default_rng(3), 4000, 240, 120
    hits = zip(random.binomial(n, usual, draws).tolist(), random.binomial(m, shifted, draws).tolist(), strict=True)
    below = sum(shift_drop(share(one, n), share(other, m)).high < usual - shifted for one, other in hits)
    assert below / draws <= 0.05 + 3 * (0.05 * 0.95 / draws) ** 0.5 + 0.01
