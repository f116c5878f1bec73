"""Traffic is split as the weights say, and nobody changes sides without need."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from support.serving import digest
from tailorbird.domain.deployment import Alias, AliasTarget
from tailorbird.domain.errors import NotFound, Unavailable
from tailorbird.serving.alias_routes import AliasRoute, AliasRoutes, choose_target

WEIGHTS = st.lists(st.integers(0, 1000), min_size=1, max_size=6).filter(any)


def alias(weights: list[int], name: str = "routing") -> Alias:
    targets = tuple(AliasTarget(release=digest(n), weight=weight) for n, weight in enumerate(weights))
    return Alias(tenant="acme", name=name, targets=targets, moved_at=datetime(2026, 1, 1, tzinfo=UTC), moved_by="olga")


@given(WEIGHTS, st.text(max_size=40))
def test_the_same_key_always_meets_the_same_target_and_never_one_of_weight_zero(weights: list[int], key: str) -> None:
    chosen = choose_target(alias(weights), key)
    assert chosen == choose_target(alias(weights), key)
    assert chosen.weight > 0


@pytest.mark.parametrize(
    "weights",
    [
        [95, 5],
        [1, 2, 3, 4],
        [700, 0, 300],
    ],
)
def test_shares_follow_the_weights(weights: list[int]) -> None:
    """Chi-squared against the weights: a wrong rule gives p < 1e-6 at once; keys are fixed, so this holds or never does."""
    split = alias(weights)
    seen = [0] * len(weights)
    positions = {target.release: position for position, target in enumerate(split.targets)}
    for user in range(20_000):
        seen[positions[choose_target(split, f"user-{user}").release]] += 1
    live = [position for position, weight in enumerate(weights) if weight]
    expected = [20_000 * weights[position] / sum(weights) for position in live]
    assert sum(seen[position] for position in live) == 20_000
    assert stats.chisquare([seen[position] for position in live], expected).pvalue > 1e-3


@given(WEIGHTS, st.data())
def test_raising_one_weight_moves_keys_to_that_target_alone(weights: list[int], data: st.DataObject) -> None:
    grown = data.draw(st.integers(0, len(weights) - 1))
    after = [weight + 50 * (position == grown) for position, weight in enumerate(weights)]
    for user in range(100):
        before_choice, after_choice = choose_target(alias(weights), str(user)), choose_target(alias(after), str(user))
        assert after_choice.release in (before_choice.release, digest(grown))


@pytest.mark.parametrize(("names", "hint"), [(100, "did you mean acme/model-7?"), (101, "GET /v1/models lists the models of this key")])
def test_an_unknown_name_is_compared_with_a_bounded_number_of_others(names: int, hint: str) -> None:
    routes = AliasRoutes()
    with pytest.raises(Unavailable):  # the record was not read yet, and may know the name
        routes.resolve("acme", "acme/model-07")
    with pytest.raises(NotFound):
        routes.resolve("acme", "globex/model-07")
    routes.keep_only(set())
    for number in range(names):
        routes.go_live(AliasRoute(alias([1], f"model-{number}"), {}))
    routes.go_live(AliasRoute(alias([1], "model-07").model_copy(update={"tenant": "globex"}), {}))
    with pytest.raises(NotFound) as refused:
        routes.resolve("acme", "acme/model-07")
    assert refused.value.hint == hint
