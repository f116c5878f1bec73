"""Statistics against scipy, published tables, independent oracles, and simulated coverage with fixed seeds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from tailorbird.domain.errors import InvalidInput
from tailorbird.stats.intervals import (
    Statistic,
    bootstrap_bca,
    clopper_pearson,
    clustered_wilson,
    items_needed_for_proportion,
    mean_interval,
    quantile_interval,
    score_interval,
    smallest_passing,
    spend,
    wilson,
)
from tailorbird.stats.paired_tests import mcnemar_exact, paired_interval

CONFIDENCES = st.sampled_from([0.8, 0.9, 0.95, 0.99])


@st.composite
def proportions(draw: st.DrawFn) -> tuple[int, int]:
    n = draw(st.integers(1, 400))
    return draw(st.integers(0, n)), n


def alone(n: int) -> list[str]:
    """Every item its own group."""
    return [str(i) for i in range(n)]


def differences(wins: int, losses: int, n: int) -> list[float]:
    return [1.0] * wins + [-1.0] * losses + [0.0] * (n - wins - losses)


# --- proportions ------------------------------------------------------------------------------------------------------------------------


@given(proportions(), CONFIDENCES)
def test_wilson_and_clopper_pearson_agree_with_scipy(counts: tuple[int, int], confidence: float) -> None:
    hits, n = counts
    oracle = stats.binomtest(hits, n)
    for ours, method in ((wilson, "wilson"), (clopper_pearson, "exact")):
        expected = oracle.proportion_ci(confidence, method)
        assert ours(hits, n, confidence) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_wilson_gives_newcombes_published_values() -> None:
    # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3 (score without continuity correction).
    assert wilson(81, 263, 0.95) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148, 0.95) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20, 0.95) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(1, 29, 0.95) == pytest.approx((0.0061, 0.1718), abs=5e-5)


@pytest.mark.parametrize(("hits", "n", "confidence"), [(3, 2, 0.9), (0, 0, 0.9), (1, 2, 1.0)])
def test_impossible_counts_are_refused(hits: int, n: int, confidence: float) -> None:
    for interval in (wilson, clopper_pearson):
        with pytest.raises(InvalidInput) as caught:
            interval(hits, n, confidence)
        assert caught.value.hint


@given(proportions(), CONFIDENCES)
def test_clustered_wilson_is_wilson_without_clusters_and_wider_with_whole_ones(counts: tuple[int, int], confidence: float) -> None:
    hits, n = counts
    outcomes = [True] * hits + [False] * (n - hits)
    assert clustered_wilson(outcomes, alone(n), confidence) == pytest.approx(wilson(hits, n, confidence), abs=1e-12)
    tripled = clustered_wilson(outcomes * 3, alone(n) * 3, confidence)
    # Items copied within their groups add nothing: the interval is never narrower than that of the originals.
    assert tripled[0] <= wilson(hits, n, confidence)[0] + 1e-9
    assert tripled[1] >= wilson(hits, n, confidence)[1] - 1e-9


# --- paired differences -----------------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 1000).map(lambda score: score / 1000), min_size=2, max_size=60), st.sampled_from((0.8, 0.9, 0.95)))
def test_an_interval_of_scores_holds_their_mean_mirrors_and_has_width(scores: list[float], confidence: float) -> None:
    low, high = mean_interval(scores, alone(len(scores)), confidence)
    mirrored = mean_interval([1 - score for score in scores], alone(len(scores)), confidence)
    assert 0 <= low <= float(np.mean(scores)) + 1e-12
    assert float(np.mean(scores)) - 1e-12 <= high <= 1
    assert low < high
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-6)


def test_scores_of_few_items_near_one_prove_too_much_no_oftener_than_stated() -> None:
    """Where the bootstrap errs half as often again: 60 scores in tenths, of mean 0.9; nominal 5 % on this side."""
    draws = np.random.default_rng(2).binomial(10, np.random.default_rng(3).beta(0.9, 0.1, (4_000, 60))) / 10
    assert np.mean([mean_interval(list(scores), alone(60), 0.9)[0] > 0.9 for scores in draws]) <= 0.058
    some = draws[:400]
    by_bootstrap = [bootstrap_bca(mean_of(s), alone(60), 0.9, 20, 500)[0] > 0.9 for s in some]
    assert np.mean(by_bootstrap) > np.mean([mean_interval(list(scores), alone(60), 0.9)[0] > 0.9 for scores in some])


def test_scores_that_share_groups_prove_less_and_scores_outside_are_refused() -> None:
    scores = [0.9, 0.95, 0.85, 0.3, 0.35, 0.4] * 10
    together = [str(place // 3) for place in range(60)]
    assert mean_interval(scores, together, 0.9)[0] < mean_interval(scores, alone(60), 0.9)[0]
    assert mean_interval([0.5] * 40, alone(40), 0.9) == pytest.approx(score_interval(0.5, 40, 0.9))
    for refused in ([], [1.1, 0.2]):
        with pytest.raises(InvalidInput):
            mean_interval(refused, alone(len(refused)), 0.9)


def test_tango_gives_the_published_interval() -> None:
    # Airway hyper-responsiveness (Bentur 2009; Fagerland, Lydersen & Laake 2014, Statistics in Medicine 33:2850): 1 and 7 discordant of 21.
    low, high = paired_interval(differences(1, 7, 21), alone(21), 0.95)
    assert (round(low, 3), round(high, 3)) == (-0.517, -0.026)


@pytest.mark.parametrize(
    ("wins", "losses", "n"),
    [
        (12, 2, 50),
        (5, 0, 30),
    ],
)
def test_tango_agrees_with_constrained_maximum_likelihood(wins: int, losses: int, n: int) -> None:
    """The score statistic with its nuisance parameter found by numeric likelihood is ± z at both ends."""
    z = float(stats.norm.ppf(0.95))
    for end, sign in zip(paired_interval(differences(wins, losses, n), alone(n), 0.90), (1, -1), strict=True):

        def unlikely(lost: float, delta: float = end) -> float:
            won, same = lost + delta, 1 - 2 * lost - delta
            shares = ((wins, won), (losses, lost), (n - wins - losses, same))
            return -sum(count * math.log(max(share, 1e-300)) for count, share in shares if count)

        found = optimize.minimize_scalar(unlikely, bounds=(max(0.0, -end), (1 - end) / 2), method="bounded", options={"xatol": 1e-12})
        variance = (2 * found.x + end - end * end) / n
        assert (wins - losses) / n - end == pytest.approx(sign * z * math.sqrt(variance), abs=1e-4)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 200), CONFIDENCES)
def test_paired_interval_mirrors_contains_the_mean_and_has_width(wins: int, losses: int, same: int, confidence: float) -> None:
    n = wins + losses + same
    if n == 0:
        return
    low, high = paired_interval(differences(wins, losses, n), alone(n), confidence)
    mirrored = paired_interval(differences(losses, wins, n), alone(n), confidence)
    assert (low, high) == pytest.approx((-mirrored[1], -mirrored[0]), abs=1e-9)
    assert -1 <= low <= (wins - losses) / n + 1e-12
    assert (wins - losses) / n - 1e-12 <= high <= 1
    assert high - low > 1 / (10 * n)


def test_pairs_that_all_agree_still_leave_doubt() -> None:
    z2 = float(stats.norm.ppf(0.95)) ** 2
    assert paired_interval([0.0] * 50, alone(50), 0.90) == pytest.approx((-z2 / (50 + z2), z2 / (50 + z2)), abs=1e-9)
    low, high = paired_interval([0.25] * 50, alone(50), 0.90)
    assert -1 < low < 0.25 < high < 1


def test_clusters_widen_the_paired_interval_and_items_order_does_not_matter() -> None:
    generator = np.random.default_rng(3)
    values = np.repeat(generator.choice([-1.0, 0.0, 1.0], 30, p=[0.1, 0.6, 0.3]), 8)
    groups = np.repeat(np.arange(30), 8).astype(str)
    naive = paired_interval(list(values), alone(240), 0.90)
    clustered = paired_interval(list(values), list(groups), 0.90)
    assert clustered[1] - clustered[0] > 2.5 * (naive[1] - naive[0])
    order = generator.permutation(240)
    assert paired_interval(list(values[order]), list(groups[order]), 0.90) == pytest.approx(clustered, abs=1e-9)


@pytest.mark.parametrize("values", [[], [1.5, 0.0]])
def test_paired_interval_refuses_what_it_cannot_bound(values: list[float]) -> None:
    with pytest.raises(InvalidInput):
        paired_interval(values, alone(len(values)), 0.9)
    with pytest.raises(InvalidInput):
        paired_interval([0.0, 1.0], ["a"], 0.9)


@given(st.integers(0, 30), st.integers(0, 30))
def test_mcnemar_is_the_binomial_sign_test(wins: int, losses: int) -> None:
    tail = sum(math.comb(wins + losses, k) for k in range(min(wins, losses) + 1)) / 2 ** (wins + losses)
    assert mcnemar_exact(wins, losses) == pytest.approx(min(1.0, 2 * tail) if wins != losses else 1.0)


# --- bootstrap and quantiles ------------------------------------------------------------------------------------------------------------


def mean_of(values: np.ndarray) -> Statistic:
    return lambda weights: weights @ values / weights.sum(axis=1)


def test_bca_is_seeded_knows_groups_and_leaves_out_undefined_draws() -> None:
    values = np.repeat(np.random.default_rng(8).normal(size=20), 5)
    groups = [str(i // 5) for i in range(100)]
    mean = mean_of(values)
    grouped = bootstrap_bca(mean, groups, 0.9, seed=4)
    assert grouped == bootstrap_bca(mean, groups, 0.9, seed=4)
    single = bootstrap_bca(mean, alone(100), 0.9, seed=4)
    assert grouped[1] - grouped[0] > 1.7 * (single[1] - single[0])
    assert bootstrap_bca(lambda weights: np.where(weights[:, 0] > 0, 1.0, np.nan), alone(9), 0.9, seed=1) == (1.0, 1.0)


def test_quantile_interval_needs_enough_values() -> None:
    assert quantile_interval(range(20), 0.95, 0.90) is None
    assert quantile_interval([], 0.5, 0.90) is None
    low, high = quantile_interval(range(400), 0.95, 0.90) or (0.0, 0.0)
    assert 360 < low < 380 < high < 400


# --- planning a test --------------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 600), st.floats(0.05, 0.99), CONFIDENCES)
def test_smallest_passing_is_the_smallest(n: int, target: float, confidence: float) -> None:
    found = smallest_passing(n, target, confidence)
    if found is None:
        assert wilson(n, n, confidence)[0] < target
    else:
        assert wilson(found, n, confidence)[0] >= target
        assert found == 0 or wilson(found - 1, n, confidence)[0] < target


@given(st.integers(1, 200), st.integers(1, 200), st.floats(0.1, 0.95), CONFIDENCES)
def test_items_needed_for_a_proportion_are_enough_and_not_too_many(hits: int, misses: int, target: float, confidence: float) -> None:
    n = hits + misses
    rate = hits / n
    needed = items_needed_for_proportion(hits, n, target, confidence)
    if abs(rate - target) < 1e-3:
        return
    assert needed is not None
    z = float(stats.norm.ppf((1 + confidence) / 2))
    statistic = abs(rate - target) / math.sqrt(target * (1 - target))
    assert statistic * math.sqrt(n + needed) >= z - 1e-9
    assert needed == 0 or statistic * math.sqrt(n + needed - 1) < z + 1e-9


def test_looks_share_one_error_budget() -> None:
    spent = [1 - spend(0.95, look) for look in range(1, 20_001)]
    assert 0.0499 < sum(spent) <= 0.05
    assert spent == sorted(spent, reverse=True)
    with pytest.raises(InvalidInput):
        spend(0.95, 0)


# --- coverage, simulated ----------------------------------------------------------------------------------------------------------------


def covered(intervals: list[tuple[float, float]], truth: float) -> float:
    return float(np.mean([low <= truth <= high for low, high in intervals]))


@pytest.mark.parametrize(
    ("n", "rate"),
    [
        (300, 0.97),
    ],
)
def test_wilson_covers(n: int, rate: float) -> None:
    hits = np.random.default_rng(11).binomial(n, rate, 4000)
    cache = {int(h): wilson(int(h), n, 0.90) for h in set(hits)}
    assert covered([cache[int(h)] for h in hits], rate) >= 0.875


@pytest.mark.parametrize(
    ("n", "won", "lost"),
    [
        (40, 0.15, 0.05),
    ],
)
def test_paired_interval_covers(n: int, won: float, lost: float) -> None:
    draws = np.random.default_rng(12).multinomial(n, [won, lost, 1 - won - lost], 1500)
    intervals = [paired_interval(differences(int(w), int(x), n), alone(n), 0.90) for w, x, _ in draws]
    assert covered(intervals, won - lost) >= 0.875


def test_clustered_intervals_cover_where_independent_ones_do_not() -> None:
    """30 passages of 10 questions each that share a passage's difficulty: the setting in which naive intervals fail."""
    generator = np.random.default_rng(13)
    groups = [str(i // 10) for i in range(300)]
    rates = generator.beta(0.9 * 2, 0.1 * 2, size=(800, 30))
    outcomes = generator.random((800, 30, 10)) < rates[:, :, None]
    runs = outcomes.reshape(800, 300)
    naive = covered([wilson(int(run.sum()), 300, 0.95) for run in runs], 0.9)
    clustered = covered([clustered_wilson(list(run), groups, 0.95) for run in runs], 0.9)
    assert naive < 0.85
    assert clustered >= 0.92
