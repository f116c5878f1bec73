"""The id of a row: the digest of what makes it this row and no other.

In: a text and a target. Out: a digest. Must not know: files, splits.
"""

from __future__ import annotations

import json
from hashlib import sha256

from tailorbird.domain.value import Digest
from tailorbird.foundations.text import normalise


def row_id(text: str, target: str) -> Digest:
    """The digest of the normalised text and the target: exact duplicates share it.

    It is ``digest_of({"target": ..., "text": ...})``, spelled out because a million rows ask for it: of texts alone, ``json`` writes the
    canonical form.
    """
    encoded = f'{{"target":{_text(target)},"text":{_text(normalise(text))}}}'
    return "sha256:" + sha256(encoded.encode()).hexdigest()


_text = json.JSONEncoder(ensure_ascii=False).encode
