"""Sequential tests: against formulas by hand, and their promise, kept at every look of many simulated stories."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import betaln

from tailorbird.stats.sequential import (
    EventCounts,
    Moments,
    mean_difference,
    more_events,
    more_than,
    needed,
    other_shares,
    share_bounds,
    votes_needed,
)


def test_one_event_is_the_mean_of_the_likelihood_ratios() -> None:
    excess = np.array([1.5, 2.0, 3.0, 4.0, 6.0, 10.0, 20.0])
    assert more_events([EventCounts(0, 1, 0.5)]) == pytest.approx(math.log(np.mean(2 * excess / (1 + excess))))
    assert more_events([]) == pytest.approx(0)
    assert more_events([EventCounts(0, 0, 0.3)]) == pytest.approx(0)


@given(st.floats(0.01, 0.99))
def test_the_next_event_adds_nothing_on_average_at_the_edge_of_the_null(share: float) -> None:
    """A martingale there: what is expected after one more event is what was known before."""
    second, first = (math.exp(more_events([EventCounts(*counts, share)])) for counts in ((0, 1), (1, 0)))
    expected = share * second + (1 - share) * first
    assert expected == pytest.approx(1)


def walks(seed: int, stories: int, requests: int, rates: tuple[float, float], share: float) -> float:
    """How many of the stories ever reach the evidence for α = 0.05, looked at after every request; the rates swing with time."""
    draw, reached = np.random.default_rng(seed), 0
    for _ in range(stories):
        second = draw.random(requests) < share
        swing = 1 + 0.9 * np.sin(np.arange(requests) / 100)
        event = draw.random(requests) < np.where(second, rates[1], rates[0]) * swing
        counts = np.stack([np.cumsum(event & ~second), np.cumsum(event & second)])
        at = np.flatnonzero(event)  # evidence changes there alone
        reached += any(more_events([EventCounts(int(counts[0, i]), int(counts[1, i]), share)]) >= needed(0.05) for i in at)
    return reached / stories


def test_watched_after_every_request_no_difference_is_told_as_one_in_at_most_5_percent() -> None:
    assert walks(1, 400, 1500, (0.05, 0.05), 0.2) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 400)


def moments(values: np.ndarray) -> Moments:
    return Moments(len(values), float(values.sum()), float((values**2).sum()))


def test_a_period_that_moves_both_arms_makes_no_difference() -> None:
    """Simpson's trap: the second arm has most of its units in a slow period."""
    draw = np.random.default_rng(6)
    quick, slow = (lambda n: moments(draw.normal(0, 1, n))), (lambda n: moments(draw.normal(10, 1, n)))
    found = mean_difference([(quick(900), quick(100)), (slow(100), slow(900))], 0.05)
    assert found is not None
    assert found.low < 0 < found.high
    assert abs(found.value) < 0.3


def test_shares_against_the_formula_for_two_arms() -> None:
    """With two arms the Dirichlet-multinomial is the beta-binomial."""
    by_hand = betaln(50 + 40, 50 + 60) - betaln(50, 50) - 100 * math.log(0.5)
    assert other_shares([((40, 60), (1, 1))]) == pytest.approx(by_hand)


def test_shares_that_are_right_pass_at_every_look_and_wrong_ones_do_not() -> None:
    draw, wrong = np.random.default_rng(7), 0
    for _ in range(200):
        second = np.cumsum(draw.random(2000) < 0.1)
        wrong += any(other_shares([((n - second[n - 1], second[n - 1]), (0.9, 0.1))]) >= needed(0.01) for n in range(50, 2001, 50))
    assert wrong / 200 <= 0.03
    assert other_shares([((9300, 700), (0.9, 0.1))]) >= needed(0.001)


@given(st.lists(st.floats(0, 1), max_size=40), st.floats(0.02, 0.98))
def test_evidence_of_a_share_is_a_martingale_at_its_target_and_shrinks_below_it(votes: list[float], target: float) -> None:
    counted = Moments(len(votes), sum(votes))
    up, down = Moments(counted.n + 1, counted.total + 1), Moments(counted.n + 1, counted.total)
    before = math.exp(more_than(counted, target))
    for mean in (target, target / 2, 0.0):
        expected = mean * math.exp(more_than(up, target)) + (1 - mean) * math.exp(more_than(down, target))
        assert expected <= before * (1 + 1e-9)
        assert mean < target or expected == pytest.approx(before)


@given(st.integers(1, 400), st.data(), st.floats(0.01, 0.2))
def test_the_ends_of_a_share_are_where_the_test_turns(n: int, data: st.DataObject, alpha: float) -> None:
    votes = Moments(n, float(data.draw(st.integers(0, n))))
    bounds = share_bounds(votes, alpha)
    assert bounds is not None
    assert 0 <= bounds.low <= bounds.value <= bounds.high <= 1
    if bounds.low > 0.001:
        assert more_than(votes, bounds.low - 0.0005) >= needed(alpha)
    if bounds.low + 0.0005 < bounds.value:
        assert more_than(votes, bounds.low + 0.0005) < needed(alpha)
    assert share_bounds(Moments(), alpha) is None


@given(st.integers(0, 200), st.data(), st.floats(0.05, 0.95))
def test_as_many_votes_as_are_said_to_be_needed_are_enough_and_one_less_is_not(n: int, data: st.DataObject, target: float) -> None:
    votes = Moments(n, float(data.draw(st.integers(0, n))))
    more, rate = votes_needed(votes, target, 0.05), votes.mean if n else 1.0
    if more is None:
        assert rate <= target or more_than(Moments(n + 10**6, votes.total + rate * 10**6), target) < needed(0.05)
    elif more:
        assert more_than(Moments(n + more, votes.total + rate * more), target) >= needed(0.05)
        assert more_than(Moments(n + more - 1, votes.total + rate * (more - 1)), target) < needed(0.05)
    else:
        assert more_than(votes, target) >= needed(0.05)


@pytest.mark.parametrize("target", [0.8])
@pytest.mark.parametrize("kind", ["votes", "means of users"])
def test_a_share_at_its_target_is_taken_for_proven_no_oftener_than_promised_however_often_one_looks(target: float, kind: str) -> None:
    """Looks at up to 600 users of 300 stories; and it is proven soon where the share is truly higher."""
    random, stories, users, alpha = np.random.default_rng(11), 300, 600, 0.05
    ever, soon = [], []
    for mean, found in ((target, ever), (target + 0.8 * (1 - target), soon)):
        drawn = (random.random((stories, users)) < mean).astype(float)
        if kind == "means of users":
            drawn = random.beta(2 * mean, 2 * (1 - mean), (stories, users))
        totals = drawn.cumsum(axis=1)
        for story in totals:
            looks = [place for place in range(users) if place < 30 or place % 10 == 9]
            found.append(next((at for at in looks if more_than(Moments(at + 1, float(story[at])), target) >= needed(alpha)), None))
    assert sum(at is not None for at in ever) / len(ever) <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / len(ever))
    assert sum(at is not None for at in soon) / len(soon) >= 0.99
