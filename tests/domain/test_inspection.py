"""Columns that may hold labels."""

from __future__ import annotations

import pytest

from tailorbird.domain.dataset import ColumnSeen


def column(kind: str = "text", filled: int = 300, distinct: int = 5, longest: int = 12, **more: int | bool) -> ColumnSeen:
    return ColumnSeen(name="c", kind=kind, filled=filled, distinct=distinct, mean_length=8.0, longest=longest, **more)


@pytest.mark.parametrize(
    ("found", "named", "expected"),
    [
        (column(), False, True),
        (column(distinct=250), False, False),
        (column(distinct=140), True, True),
        (column(longest=200), True, False),
        (column(distinct=1), False, False),
        (column("list", distinct=290, several=100, parts=6, longest_part=9), False, True),
        (column(numeric=True, distinct=60), False, False),
    ],
)
def test_few_short_values_that_come_often_may_be_labels(found: ColumnSeen, named: bool, expected: bool) -> None:
    assert found.may_hold_labels(named=named) is expected


def test_one_cell_in_fifty_with_several_parts_makes_a_column_of_several_labels() -> None:
    assert column(several=6, parts=4).labels == 4
    assert column(several=5, parts=4).labels == 5
