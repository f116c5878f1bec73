"""Who sent a request, and how the address of a server is written."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.auth.request_checks import origin_of, sent_by_own_page
from tailorbird.domain.errors import InvalidInput


@pytest.mark.parametrize(
    ("headers", "own"),
    [
        ({}, False),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "same-site", "origin": "https://here", "host": "here"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"origin": "https://here", "host": "here"}, True),
        ({"origin": "https://here:81", "host": "here"}, False),
        ({"origin": "null", "host": "here"}, False),
        ({"origin": ""}, False),
    ],
)
def test_only_our_own_pages_change_anything_by_cookie(headers: dict[str, str], own: bool) -> None:
    assert sent_by_own_page(headers) is own


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://Tailorbird.Example", "https://tailorbird.example"),
        ("https://tailorbird.example:443/console?x=1", "https://tailorbird.example"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("https://user:secret@host:8443", "https://host:8443"),
    ],
)
def test_an_origin_has_one_spelling(url: str, origin: str) -> None:
    assert origin_of(url) == origin == origin_of(origin)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "tailorbird.example",
        "ftp://host",
        "https://host:99999",
    ],
)
def test_what_is_no_address_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        origin_of(url)


@given(st.text(max_size=40))
def test_any_text_is_an_origin_or_refused(text: str) -> None:
    with suppress(InvalidInput):
        origin = origin_of(text)
        assert origin_of(origin) == origin
