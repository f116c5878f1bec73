"""Pages of long lists."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.console.web import Paging


@given(st.integers(0, 500), st.integers(0, 600), st.integers(1, 60))
def test_leafing_visits_every_entry_once(total: int, skip: int, size: int) -> None:
    whole = list(range(total))
    page = Paging.of({"skip": "0"}, total, size)
    seen = list(page.cut(whole))
    while page.older is not None:
        page = Paging.of({"skip": str(page.older)}, total, size)
        seen += page.cut(whole)
    assert seen == whole
    back = Paging.of({"skip": str(skip)}, total, size)
    assert (back.newer is None) is (skip == 0)


@pytest.mark.parametrize("asked", ["", "-1", "x", "1e9", "9" * 30, "²"])
def test_nonsense_asks_for_the_first_page(asked: str) -> None:
    assert Paging.of({"skip": asked}, 100, 10).skip == 0
