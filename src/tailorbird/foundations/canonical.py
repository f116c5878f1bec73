"""Canonical JSON (RFC 8785) and the digests made from it.

In: values and bytes. Out: the one byte string that stands for a value, and its SHA-256. Must not know: where anything is stored.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import rfc8785

from tailorbird.domain.value import Digest, Value


def canonical_json(value: Value | dict[str, Any] | list[Any]) -> bytes:
    """The RFC 8785 form of ``value``: sorted keys, no white space, one spelling of every number.

    Sets are written as sorted lists, dates as ISO 8601.
    """
    plain = plain_json(value) if isinstance(value, Value) else value
    return rfc8785.dumps(plain)


def plain_json(value: Value) -> Any:
    """``value`` as JSON types only; sets become sorted lists, so that equal values give equal JSON."""
    plain = value.model_dump(mode="python")
    return json.loads(json.dumps(plain, default=_encode))


def _encode(item: Any) -> Any:
    if isinstance(item, set | frozenset):
        return sorted(item)
    return item.isoformat() if hasattr(item, "isoformat") else str(item)


def digest_bytes(data: bytes) -> Digest:
    """``sha256:<hex>`` of ``data``."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest_of(value: Value | dict[str, Any] | list[Any]) -> Digest:
    """The digest of a value's canonical JSON."""
    return digest_bytes(canonical_json(value))


def short(digest: str, length: int = 12) -> str:
    """The first hex digits of a digest, for people."""
    return digest.removeprefix("sha256:")[:length]
