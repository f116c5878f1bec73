"""Canonical JSON (RFC 8785), and digests of it."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from datetime import date, datetime
from hashlib import sha256
from typing import Any

import rfc8785

from tailorbird.domain.value import Digest, Value


def canonical_json(value: Value | dict[str, Any] | list[Any]) -> bytes:
    """The RFC 8785 form of ``value``: sorted keys, no white space, one spelling of every number.

    Sets are written as sorted lists, dates as ISO 8601. A field with its default is left out, so that a new field with a default changes
    no digest of what was stored before it.
    """
    plain, spelled = (value.model_dump(mode="python", exclude_defaults=True), _SPELLED) if isinstance(value, Value) else (value, _NOTHING)
    simple = _is_simple(plain, spelled)
    if not simple and spelled:
        plain = json.loads(json.dumps(plain, default=_encode), parse_float=_whole)
        simple = _is_simple(plain, _NOTHING)
    if simple:
        with contextlib.suppress(UnicodeEncodeError):
            return _simple(plain).encode()
    return rfc8785.dumps(_plain(plain) if spelled else plain)


#: Whole numbers that every reader of JSON takes for what they are (RFC 8785 §3.2.2.3).
_EXACT = 2**53 - 1
#: Types of a value that have one spelling in JSON (``_encode``).
_SPELLED: frozenset[type] = frozenset({datetime, date})
_NOTHING: frozenset[type] = frozenset()
_TEXT = frozenset({str})


def _is_simple(value: Any, spelled: frozenset[type]) -> bool:
    """True for texts, what is ``spelled`` in one way, numbers that are spelled alike, and what is made of them with keys in ASCII, whose
    order is one in any encoding."""
    kind = type(value)
    if kind is str or kind is bool or value is None or kind in spelled:
        return True
    if kind is int or kind is float:
        if isinstance(value, int):
            return -_EXACT <= value <= _EXACT
        return 1e-4 <= abs(value) < _EXACT and not value.is_integer()
    if kind is dict:
        # One text of all keys is looked at, which is faster than each by itself.
        if not (_TEXT.issuperset(map(type, value)) and "".join(value).isascii()):
            return False
        value = value.values()
    elif kind is not list and kind is not tuple:
        return False
    return _TEXT.issuperset(map(type, value)) or all(_is_simple(item, spelled) for item in value)


def _whole(spelled: str) -> int | float:
    """The number, as a whole one where it is spelled as one in the canonical form."""
    number = float(spelled)
    return int(number) if number.is_integer() and abs(number) <= _EXACT else number


def plain_json(value: Any) -> Any:
    """``value``, with all its fields, as JSON types only; sets become sorted lists, so that equal values give equal JSON."""
    return _plain(value.model_dump(mode="python") if isinstance(value, Value) else value)


def _plain(dumped: Any) -> Any:
    return json.loads(json.dumps(dumped, default=_encode))


def _encode(item: Any) -> Any:
    if isinstance(item, set | frozenset):
        return sorted(item)
    return item.isoformat() if hasattr(item, "isoformat") else str(item)


#: Where nothing but keys and numbers could be spelled otherwise, this is the same form, several times as fast.
_simple = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), check_circular=False, default=_encode).encode


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


#: Bytes of a block of SHA-256.
_BLOCK = 64


def keyed(key: bytes) -> Callable[[bytes], bytes]:
    """HMAC-SHA-256 (RFC 2104) of a message by ``key``, 32 bytes. What both hashes begin with is hashed once for all messages: half the time
    of ``hmac.digest``."""
    block = (key if len(key) <= _BLOCK else sha256(key).digest()).ljust(_BLOCK, b"\x00")
    inner, outer = sha256(bytes(byte ^ 0x36 for byte in block)), sha256(bytes(byte ^ 0x5C for byte in block))

    def hashed(message: bytes) -> bytes:
        within, around = inner.copy(), outer.copy()
        within.update(message)
        around.update(within.digest())
        return around.digest()

    return hashed
