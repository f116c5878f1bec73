"""Order, division and learning rate: pure functions of settings and seed."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.training_samples import settings
from tailorbird.training.batches import Batches, TokenizedRow, divide, shared_prefix
from tailorbird.training.loop import learning_rate

tokens = st.lists(st.integers(0, 2), min_size=2, max_size=12)


@st.composite
def encoded(draw: st.DrawFn) -> TokenizedRow:
    ids = tuple(draw(tokens))
    return TokenizedRow(ids, draw(st.integers(1, len(ids) - 1)))


@given(st.lists(encoded(), min_size=1, max_size=8))
def test_the_prefix_is_the_longest_that_leaves_each_row_its_last_prompt_token(some: list[TokenizedRow]) -> None:
    prefix, most = shared_prefix(some), min(row.prompt for row in some) - 1
    assert len({row.ids[:prefix] for row in some}) == 1
    assert prefix == most or len({row.ids[: prefix + 1] for row in some}) > 1


@given(st.lists(encoded(), min_size=1, max_size=12), st.integers(1, 40))
def test_parts_keep_rows_order_and_budget(some: list[TokenizedRow], budget: int) -> None:
    parts = divide(some, budget)
    assert [row for part in parts for row in part] == some
    for part in parts:
        prefix = shared_prefix(part)
        read = prefix + sum(len(row.ids) - 1 - prefix for row in part)
        assert len(part) == 1 or read <= budget


@given(st.integers(1, 50), st.integers(1, 9), st.integers(1, 4), st.integers(0, 5))
def test_every_epoch_is_one_shuffle_of_all_rows(count: int, batch: int, epochs: int, seed: int) -> None:
    some = [TokenizedRow((i, 1), 1) for i in range(count)]
    chosen = settings(batch_size=batch, epochs=epochs, seed=seed)
    batches = Batches(some, chosen)
    seen = [row for step in range(batches.steps) for part in batches.at(step) for row in part]
    for epoch in range(epochs):
        assert sorted(row.ids for row in seen[epoch * count : (epoch + 1) * count]) == sorted(row.ids for row in some)
    again = Batches(some, chosen)
    assert again.at(batches.steps - 1) == batches.at(batches.steps - 1)


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 3), st.integers(1, 5))
def test_each_epoch_ends_with_an_evaluation(count: int, batch: int, epochs: int, times: int) -> None:
    batches = Batches([TokenizedRow((1, 1), 1)] * count, settings(batch_size=batch, epochs=epochs, evaluations_per_epoch=times))
    steps = {step for step in range(batches.steps + 1) if batches.evaluates(step)}
    assert {batches.steps_per_epoch * (epoch + 1) for epoch in range(epochs)} <= steps
    assert min(steps) >= 1
    assert max(steps) == batches.steps
    assert len(steps) == epochs * min(times, batches.steps_per_epoch)


def test_the_rate_rises_then_falls_to_zero() -> None:
    chosen = settings(learning_rate=1.0, warmup=0.1)
    rates = [learning_rate(chosen, step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (k + 1) for k in range(10)])
    assert rates[10] == 1.0
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[55] == pytest.approx(0.5)
    assert 0 < rates[-1] < 1e-3
