"""Ids as bytes, for what is kept between two curations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.crypto.digest_arrays import digests_of


@given(st.lists(st.binary(max_size=8), max_size=9))
def test_digests_become_the_bytes_that_they_spell(contents: list[bytes]) -> None:
    digests = [digest_bytes(content) for content in contents]
    assert [f"sha256:{row.tobytes().hex()}" for row in digests_of(digests)] == digests


@pytest.mark.parametrize(
    "id_", ["", "sha256:", "sha256:" + "g" * 64, "sha512:" + "0" * 64, "0" * 71, "sha256:" + "0" * 63 + "é", "sha256:" + " 0" * 32]
)
def test_what_is_no_digest_is_refused(id_: str) -> None:
    with pytest.raises(ValueError, match=r"digest|hex"):
        digests_of([digest_bytes(b"x"), id_] if id_ else ["x" * 71])
