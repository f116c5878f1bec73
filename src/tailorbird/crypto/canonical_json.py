"""Canonical JSON (RFC 8785), and digests of it."""

from __future__ import annotations

import contextlib
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
    if _is_simple(plain):
        with contextlib.suppress(UnicodeEncodeError):
            return _simple(plain).encode()
    return rfc8785.dumps(plain)


#: Whole numbers that every reader of JSON takes for what they are (RFC 8785 §3.2.2.3).
_EXACT = 2**53 - 1
#: Where nothing but keys and numbers could be spelled otherwise, this is the same form, several times as fast.
_simple = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), check_circular=False).encode


def _is_simple(value: Any) -> bool:
    """True for texts, numbers that are spelled alike, and what is made of them with keys in ASCII, whose order is one in any encoding."""
    kind = type(value)
    if kind is dict:
        return all(type(key) is str and key.isascii() for key in value) and all(map(_is_simple, value.values()))
    if kind in (list, tuple):
        return set(map(type, value)) <= {str} or all(map(_is_simple, value))
    if kind is float:
        return 1e-4 <= abs(value) < _EXACT and not value.is_integer()
    return kind is str or kind is bool or value is None or (kind is int and -_EXACT <= value <= _EXACT)


def plain_json(value: Value, *, without_defaults: bool = False) -> Any:
    """``value`` as JSON types only; sets become sorted lists, so that equal values give equal JSON."""
    plain = value.model_dump(mode="python", exclude_defaults=without_defaults)
    return json.loads(json.dumps(plain, default=_encode))


def _encode(item: Any) -> Any:
    if isinstance(item, set | frozenset):
        return sorted(item)
    return item.isoformat() if hasattr(item, "isoformat") else str(item)


def digest_bytes(*parts: bytes | memoryview) -> Digest:
    """``sha256:<hex>`` of ``parts`` as one, in their order."""
    hashed = hashlib.sha256()
    for part in parts:
        hashed.update(part)
    return "sha256:" + hashed.hexdigest()


def digest_of(value: Value | dict[str, Any] | list[Any]) -> Digest:
    """The digest of a value's canonical JSON."""
    return digest_bytes(canonical_json(value))


def short(digest: str, length: int = 12) -> str:
    """The first hex digits of a digest, for people."""
    return digest.removeprefix("sha256:")[:length]
