"""Exact copies among keys."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tailorbird.data.duplicates.exact import first_places


@given(st.lists(st.sampled_from("abcdefgh")) | st.lists(st.text(max_size=3), unique=True))
def test_each_key_is_found_where_it_stands_first(keys: list[str]) -> None:
    first, again = first_places(keys)
    assert first == [place for place, key in enumerate(keys) if key not in keys[:place]]
    several = {key: [place for place, other in enumerate(keys) if other == key] for key in keys if keys.count(key) > 1}
    assert again == {places[0]: places for places in several.values()}
