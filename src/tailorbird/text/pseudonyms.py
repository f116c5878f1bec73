"""Pseudonyms of subjects: keyed and stable."""

from __future__ import annotations

import hashlib
import hmac

from tailorbird.text.normalisation import normalise


def pseudonym(secret: bytes, tenant: str, subject: str) -> str:
    """``subject:`` and 32 hex digits: HMAC-SHA-256 of the name as people would call it the same (case and white space do not count)."""
    message = f"tailorbird/subject/v1\n{tenant}\n{normalise(subject)}".encode()
    return "subject:" + hmac.new(secret, message, hashlib.sha256).hexdigest()[:32]
