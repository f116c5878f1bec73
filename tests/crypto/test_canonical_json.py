"""Canonical JSON is RFC 8785, whichever way it is written."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from tailorbird.crypto.canonical_json import canonical_json, plain_json
from tailorbird.domain.value import Value

LEAVES = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text()
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@given(st.dictionaries(st.text(), JSON) | st.lists(JSON))
@example({"\ue000": 1, "\U0001f600": 2})
@example(['\x00\x1f\x7f\u2028"\\/', -0.0, 1e21, 1e-7])
def test_any_json_has_the_form_of_the_rfc(value: dict[str, Any] | list[Any]) -> None:
    assert canonical_json(value) == rfc8785.dumps(value)


@pytest.mark.parametrize("value", [{"a": 2**53}, ["\ud800"], {"a": float("nan")}])
def test_what_has_no_form_is_refused_as_the_library_refuses_it(value: Any) -> None:
    with pytest.raises(rfc8785.CanonicalizationError):
        rfc8785.dumps(value)
    with pytest.raises(rfc8785.CanonicalizationError):
        canonical_json(value)


class _Kept(Value):
    days: tuple[date, ...]
    names: frozenset[str]


def test_dates_and_sets_have_one_form() -> None:
    assert canonical_json(_Kept(days=(date(2026, 1, 2),), names=frozenset({"b", "a"}))) == b'{"days":["2026-01-02"],"names":["a","b"]}'


class _Mixed(Value):
    at: datetime
    data: dict[str, str | int | float | bool | None]
    sets: frozenset[int | str]
    parts: tuple[_Kept, ...]


KEPT = st.builds(_Kept, days=st.lists(st.dates()).map(tuple), names=st.frozensets(st.text()))
MIXED = st.builds(
    _Mixed,
    at=st.datetimes(timezones=st.just(UTC)),
    data=st.dictionaries(st.text(), LEAVES),
    sets=st.frozensets(st.text()) | st.frozensets(st.integers(0, 9)),
    parts=st.lists(KEPT).map(tuple),
)


@given(MIXED)
def test_a_value_has_the_form_of_its_plain_json(value: _Mixed) -> None:
    assert canonical_json(value) == rfc8785.dumps(plain_json(value))


def test_dates_are_spelled_in_values_alone() -> None:
    with pytest.raises(rfc8785.CanonicalizationError):
        canonical_json({"at": date(2026, 1, 2)})
