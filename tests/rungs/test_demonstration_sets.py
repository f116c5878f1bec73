"""Sets of demonstrations that a search tries."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from support.rungs import LABELS, make_rows
from tailorbird.rungs.prompt import changed_sets, demonstration_of, typical_set


@given(st.integers(1, 12), st.integers(0, 5))
def test_typical_rows_are_spread_over_answers_and_stand_once(count: int, seed: int) -> None:
    shown = typical_set(make_rows(40), count, seed)
    assert len({one.row_id for one in shown}) == len(shown) == count
    given_of = Counter(one.target for one in shown)
    assert max(given_of.values()) - min(given_of.get(label, 0) for label in LABELS) <= 1


def test_changed_sets_keep_their_size_and_show_nothing_twice() -> None:
    rows = make_rows(40)
    shown, other = tuple(map(demonstration_of, rows[:6])), tuple(map(demonstration_of, rows[4:10]))
    changed = dict(changed_sets(shown, other, rows[:30], [rows[2], *rows[20:30]], 3))
    assert all(len({one.row_id for one in each}) == len(each) == 6 for each in changed.values())
    assert sorted(changed["another order"], key=str) == sorted(shown, key=str)
    fresh = {one.row_id for one in changed["for what did worst"] if one not in shown}
    assert fresh == {row.id for row in rows[20:22]}, "a third, the first of them that were not shown"
