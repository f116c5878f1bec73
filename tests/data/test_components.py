"""Connected components, against sets that are merged one tie at a time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tailorbird.data.duplicates.components import component_labels, components


def _merged(size: int, ties: list[tuple[int, ...]]) -> set[frozenset[int]]:
    parts = [{member} for member in range(size)]
    for tie in ties:
        whole = set().union(*(part for part in parts if part & set(tie)))
        parts = [part for part in parts if not part & set(tie)] + [whole]
    return {frozenset(part) for part in parts if part}


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11), st.integers(0, 11)), max_size=12))
def test_ties_connect_what_merging_sets_connects(ties: list[tuple[int, ...]]) -> None:
    expected = _merged(12, list(ties))
    assert {frozenset(part) for part in components(range(12), ties)} == expected
    edges = [(tie[0], other) for tie in ties for other in tie[1:]]
    labels = component_labels(12, [one for one, _ in edges], [other for _, other in edges]).tolist()
    assert {frozenset(place for place in range(12) if labels[place] == label) for label in labels} == expected
