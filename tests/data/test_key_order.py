"""The order of hashed keys is numpy's stable one, whatever the keys are."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.data.duplicates.minhash import key_order
from tailorbird.data.duplicates.near_duplicates import WINDOW, meetings

#: Keys of few values, of many, and such as differ in their lower bits alone.
KEYS = st.lists(st.one_of(st.integers(0, 3), st.integers(0, 2**64 - 1), st.integers(0, 3).map(lambda low: (7 << 60) + low)), max_size=60)


@given(KEYS)
def test_keys_are_in_the_order_of_a_stable_sort(keys: list[int]) -> None:
    """Also where only the bits that places are kept in tell them apart."""
    keys_N = np.array(keys, dtype=np.uint64)
    order_N, sorted_N = key_order(keys_N)
    assert order_N.tolist() == np.argsort(keys_N, kind="stable").tolist()
    assert sorted_N.tolist() == sorted(keys)


@given(st.lists(st.integers(0, 2), max_size=3 * WINDOW))
def test_each_place_meets_those_near_it_with_its_key(keys: list[int]) -> None:
    """Up to ``WINDOW`` later ones, in the order of appearance, and no others."""
    keys_N = np.array(keys, dtype=np.uint64)
    met = [pair for ones, others in meetings(*key_order(keys_N)) for pair in zip(ones.tolist(), others.tolist(), strict=True)]
    expected = []
    for key in set(keys):
        places = [place for place, each in enumerate(keys) if each == key]
        expected += [(one, other) for at, one in enumerate(places) for other in places[at + 1 : at + 1 + WINDOW]]
    assert sorted(met) == sorted(expected)
