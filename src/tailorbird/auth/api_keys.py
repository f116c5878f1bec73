"""API keys: secrets for programs, of which only a hash is kept.

A secret reads ``tb_<id>_<256 random bits>``. The id finds the row; the random part is long enough that a plain SHA-256 of the
whole is safe to keep (nothing to guess, so nothing to stretch).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from datetime import datetime

from tailorbird.domain.errors import InvalidInput, Unauthenticated
from tailorbird.domain.identity import USUAL_SCOPES, ApiKey, Scope

_ID_BYTES = 6
_SECRET_BYTES = 32
_SECRET = re.compile(r"tb_(?P<id>[0-9a-f]{12})_[A-Za-z0-9_-]{43}")


def issue_api_key(
    tenant: str,
    name: str,
    now: datetime,
    expires_at: datetime | None = None,
    scopes: frozenset[Scope] = USUAL_SCOPES,
    groups: frozenset[str] = frozenset(),
) -> tuple[ApiKey, str]:
    """A new key and its secret, which is shown once and kept nowhere. Raises InvalidInput when it would have expired already."""
    if expires_at is not None and expires_at <= now:
        raise InvalidInput("the key would expire before it is made", "give a later date, or none", code="key_expiry")
    key_id = secrets.token_hex(_ID_BYTES)
    secret = f"tb_{key_id}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    key = ApiKey(
        id=key_id,
        tenant=tenant,
        name=name,
        secret_sha256=_hash(secret),
        created_at=now,
        expires_at=expires_at,
        scopes=scopes,
        groups=groups,
    )
    return key, secret


def key_id_of(secret: str) -> str:
    """Key id claimed by a secret. Raises Unauthenticated when the secret is malformed."""
    match = _SECRET.fullmatch(secret)
    if match is None:
        raise Unauthenticated(
            "this is not a tailorbird API key", "send the secret that tailorbird key create printed: tb_<id>_<secret>", code="key_malformed"
        )
    return match["id"]


def secret_matches(key: ApiKey, secret: str) -> bool:
    """True when ``secret`` is the secret of ``key``, in constant time. Does not check expiry."""
    return hmac.compare_digest(_hash(secret), key.secret_sha256)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
