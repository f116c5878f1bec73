"""How many independent items clustered ones are worth."""

from __future__ import annotations

import numpy as np
import pytest

from tailorbird.stats.design_effect import worth


def squares(hits_G: list[float], sizes_G: list[float]) -> tuple[float, float]:
    hits, sizes = np.array(hits_G), np.array(sizes_G)
    rate = float(hits.sum() / sizes.sum())
    return rate, float(((hits - sizes * rate) ** 2).sum())


def items(hits_G: list[float], sizes_G: list[float]) -> float:
    rate, square = squares(hits_G, sizes_G)
    return float(worth(np.array([rate]), np.array([square]), np.array(sizes_G))[0])


def test_groups_that_go_right_or_wrong_as_one_are_worth_about_a_group_each() -> None:
    assert items([10.0, 0.0] * 20, [10.0] * 40) == pytest.approx(40, rel=0.15)


def test_groups_whose_items_differ_within_are_worth_more_than_groups_and_no_more_than_items() -> None:
    assert 40 < items([5.0, 6.0, 4.0, 5.0] * 10, [10.0] * 40) <= 400


def test_one_group_is_worth_one_item() -> None:
    assert items([7.0], [10.0]) == 1
