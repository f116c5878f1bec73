"""Rows held out of train to choose by."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.rungs import make_rows
from tailorbird.domain.errors import DataInvalid
from tailorbird.planning import estimates as flops
from tailorbird.planning import estimates as time_and_cost
from tailorbird.rungs.context import ENOUGH, SHARE, hold_out
from tailorbird.rungs.prompt import DRAWS, SCORED


@given(st.integers(2, 300), st.integers(2, 60), st.integers(0, 5))
def test_held_out_rows_share_no_group_with_the_rest(count: int, groups: int, seed: int) -> None:
    rows = make_rows(count, groups)
    if len({row.group for row in rows}) < 2:
        return
    learn, held_out = hold_out(rows, seed)
    assert learn
    assert held_out
    assert sorted(row.id for row in learn + held_out) == sorted(row.id for row in rows)
    assert not {row.group for row in learn} & {row.group for row in held_out}
    assert hold_out(tuple(reversed(rows)), seed) == (learn, held_out)


def test_rows_of_one_group_cannot_be_held_out() -> None:
    with pytest.raises(DataInvalid) as caught:
        hold_out(make_rows(10, 1), 1)
    assert "please look" not in caught.value.message


def test_what_planning_assumes_is_what_rungs_do() -> None:
    assert (time_and_cost.FEW_SHOT_DRAWS, time_and_cost.FEW_SHOT_ROWS) == (DRAWS, SCORED)
    assert (flops.HELD_OUT, flops.MOST_HELD_OUT) == (SHARE, ENOUGH)
