"""Addresses that submitted work may read at."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.addresses import NO_ADDRESS, PLACES
from tailorbird.domain.errors import Forbidden, TailorbirdError, Unavailable
from tailorbird.system.outward_access import SourceAccess, grant_for, grant_within, restrict_sources

REACH = SourceAccess("acme", PLACES, {"board": {"key": "k", "secret": "s"}})


NOT_COVERED = [
    "s3://acme-other/rows.csv",
    "s3://shared/rows.csv",
    "s3://shared/exports-of-others/rows.csv",
    "https://data.acme.example/rows.csv",
    "https://data.acme.example.evil.example/exports/rows.csv",
    "https://data.acme.example:80/exports/rows.csv",
    "hf://acme/tiny2",
    "hf://datasets/acme-other/desk",
    "az://box@other/rows.csv",
]


@pytest.mark.parametrize("address", NOT_COVERED)
def test_what_no_place_covers_is_not_allowed(address: str) -> None:
    with pytest.raises(Forbidden) as refused:
        grant_within(REACH, address)
    assert refused.value.error_code == "forbidden"


@pytest.mark.parametrize("address", NO_ADDRESS)
def test_what_has_a_second_spelling_is_no_address(address: str) -> None:
    with pytest.raises(Forbidden) as refused:
        grant_within(REACH, address)
    assert refused.value.error_code == "forbidden"


def test_a_credential_that_this_machine_lacks_is_no_leave_to_use_another() -> None:
    assert grant_within(REACH, "s3://acme/board/x").options == {"key": "k", "secret": "s"}
    with pytest.raises(Unavailable) as missing:
        grant_within(REACH, "hf://acme/tiny")
    assert missing.value.error_code == "credential_missing"


def test_nothing_is_bounded_outside_and_everything_inside() -> None:
    assert grant_for("s3://anything/../at all") is None
    with restrict_sources(SourceAccess("acme", ())), pytest.raises(Forbidden):
        grant_for("s3://acme/rows.csv")
    assert grant_for("s3://acme/rows.csv") is None


@given(st.text(max_size=60).map(lambda rest: f"s3://acme/{rest}"))
def test_whatever_is_covered_lies_below_the_prefix_for_whoever_resolves_it(address: str) -> None:
    """As a file system or a server would: with escapes undone and dots resolved."""
    import posixpath
    from urllib.parse import unquote

    try:
        grant_within(REACH, address)
    except TailorbirdError:
        return
    for told in (address, unquote(address), unquote(unquote(address))):
        path = told.removeprefix("s3://")
        assert posixpath.normpath(path.replace("\\", "/")).split("/")[0] == "acme"
