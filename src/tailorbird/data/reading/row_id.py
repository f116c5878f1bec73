"""The id of a row: the digest of what makes it this row and no other.

In: a text and a target. Out: a digest. Must not know: files, splits.
"""

from __future__ import annotations

from tailorbird.domain.value import Digest
from tailorbird.foundations.canonical import digest_of
from tailorbird.foundations.text import normalise


def row_id(text: str, target: str) -> Digest:
    """The digest of the normalised text and the target: exact duplicates share it."""
    return digest_of({"text": normalise(text), "target": target})
