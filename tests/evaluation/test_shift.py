"""The drop between two sets of items: Newcombe's interval for proportions, covered as often as it says, for any metric."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.domain.evidence import Metric
from tailorbird.evaluation import shift_drop
from tailorbird.stats.intervals import score_interval, unpaired_interval


def share(hits: int, n: int, name: str = "accuracy", confidence: float = 0.9) -> Metric:
    low, high = score_interval(hits / n, n, confidence)
    return Metric(name=name, value=hits / n, low=low, high=high, confidence=confidence, n=n, method="wilson", hits=hits)


@given(data=st.data(), n=st.integers(1, 300), m=st.integers(1, 300))
def test_for_shares_it_is_newcombes_interval(data: st.DataObject, n: int, m: int) -> None:
    one, other = data.draw(st.integers(0, n)), data.draw(st.integers(0, m))
    found = shift_drop(share(one, n), share(other, m))
    assert (found.value, found.low, found.high) == pytest.approx((one / n - other / m, *unpaired_interval((one, n), (other, m), 0.9)))
    assert found.low <= found.value <= found.high
    assert found.n == m


@given(data=st.data(), n=st.integers(1, 300), m=st.integers(1, 300))
def test_where_less_is_better_more_of_it_is_the_drop(data: st.DataObject, n: int, m: int) -> None:
    one, other = data.draw(st.integers(0, n)), data.draw(st.integers(0, m))
    usual, shifted = share(one, n, "refusal_rate"), share(other, m, "refusal_rate")
    found, mirrored = shift_drop(usual, shifted), shift_drop(share(other, m), share(one, n))
    assert (found.value, found.low, found.high) == (mirrored.value, mirrored.low, mirrored.high)
    assert (found.value > 0) == (shifted.value > usual.value)


@pytest.mark.parametrize(("usual", "shifted"), [(0.9, 0.9), (0.95, 0.85), (0.8, 0.9)])
def test_the_upper_end_lies_below_the_true_drop_no_oftener_than_promised(usual: float, shifted: float) -> None:
    random, draws, n, m = np.random.default_rng(3), 4000, 240, 120
    hits = zip(random.binomial(n, usual, draws).tolist(), random.binomial(m, shifted, draws).tolist(), strict=True)
    below = sum(shift_drop(share(one, n), share(other, m)).high < usual - shifted for one, other in hits)
    assert below / draws <= 0.05 + 3 * (0.05 * 0.95 / draws) ** 0.5 + 0.01
