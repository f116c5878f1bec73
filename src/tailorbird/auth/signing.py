"""Signatures of identities over a purpose and a digest."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from datetime import datetime

from tailorbird.auth.identity_keys import PrivateKey, public_key
from tailorbird.crypto.log_verification import is_signed
from tailorbird.domain.errors import Corrupt, InvalidInput, Unauthenticated
from tailorbird.domain.identity import USUAL_SCOPES, ApiKey, Identity, Scope, Signature
from tailorbird.domain.value import Digest

_PURPOSE = re.compile(r"[a-z][a-z0-9-]{0,31}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def signed_bytes(purpose: str, digest: Digest) -> bytes:
    """Bytes that are signed: ``tailorbird/<purpose>/v1\\n<digest>\\n``. Neither part can hold a line break, so no two pairs give the same
    bytes.

    Raises InvalidInput when the purpose or the digest is malformed.
    """
    if not _PURPOSE.fullmatch(purpose) or not _DIGEST.fullmatch(digest):
        raise InvalidInput(
            "a signature needs a purpose in lower case and a sha256 digest",
            "sign a digest as sha256:<64 hexadecimal digits>",
        )
    return f"tailorbird/{purpose}/v1\n{digest}\n".encode()


def sign(key: PrivateKey, identity_name: str, purpose: str, digest: Digest, at: datetime) -> Signature:
    """The signature of ``identity_name``, made with ``key``. Raises InvalidInput as ``signed_bytes``."""
    return Signature(
        identity=identity_name,
        public_key=public_key(key),
        purpose=purpose,
        digest=digest,
        signature=base64.b64encode(key.sign(signed_bytes(purpose, digest))).decode(),
        at=at,
    )


def verify(signature: Signature, *, identity: Identity, purpose: str, digest: Digest) -> None:
    """Checks that ``identity`` signed ``digest`` for ``purpose`` with its registered key, or with one it was rotated away from.

    Raises Corrupt (``signature_invalid``) when the signature names somebody else, another key, purpose or digest, or does not verify.
    """
    claims = (
        (signature.identity == identity.name, f"was made by {signature.identity}, not by {identity.name}"),
        (signature.public_key in (identity.public_key, *identity.former_keys), f"was not made with the key registered for {identity.name}"),
        (signature.purpose == purpose, f"was made for another purpose ({signature.purpose}, not {purpose})"),
        (signature.digest == digest, "was made over another digest"),
    )
    for holds, what in claims:
        if not holds:
            raise _invalid(what)
    if not is_signed(signed_bytes(purpose, digest), signature.signature, signature.public_key):
        raise _invalid(f"does not verify with the key of {identity.name}")


def verify_sent(signature: Signature, *, identity: Identity, purpose: str, digest: Digest) -> None:
    """Checks a signature that was just sent: the present key of ``identity`` alone makes one. Raises InvalidInput."""
    try:
        verify(signature, identity=identity.model_copy(update={"former_keys": ()}), purpose=purpose, digest=digest)
    except Corrupt as error:
        raise InvalidInput(error.message, f"sign it with the present key of {identity.name}", code="signature_invalid") from None


def holds(signature: Signature, key: str, purpose: str, digest: Digest) -> bool:
    """True when ``signature`` was made with the private half of ``key`` (base64) over ``digest`` for ``purpose``."""
    if (signature.public_key, signature.purpose, signature.digest) != (key, purpose, digest):
        return False
    return is_signed(signed_bytes(purpose, digest), signature.signature, key)


def _invalid(what: str) -> Corrupt:
    return Corrupt(
        f"the signature {what}", "do not use what it covers: verify the log with tailorbird audit verify", code="signature_invalid"
    )


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
        raise InvalidInput("the key would expire before it is made", "give a later date, or none")
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
        raise Unauthenticated("this is not a tailorbird API key", "send the secret that tailorbird key create printed: tb_<id>_<secret>")
    return match["id"]


def secret_matches(key: ApiKey, secret: str) -> bool:
    """True when ``secret`` is the secret of ``key``, in constant time. Does not check expiry."""
    return hmac.compare_digest(_hash(secret), key.secret_sha256)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
