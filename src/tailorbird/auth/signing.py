"""Signatures of identities over a purpose and a digest."""

from __future__ import annotations

import base64
import re
from datetime import datetime

from tailorbird.auth.identity_keys import PrivateKey, public_key
from tailorbird.crypto.ed25519 import is_signed
from tailorbird.domain.errors import Corrupt, InvalidInput
from tailorbird.domain.identity import Identity, Signature
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
            code="unsignable",
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


def holds(signature: Signature, key: str, purpose: str, digest: Digest) -> bool:
    """True when ``signature`` was made with the private half of ``key`` (base64) over ``digest`` for ``purpose``."""
    if (signature.public_key, signature.purpose, signature.digest) != (key, purpose, digest):
        return False
    return is_signed(signed_bytes(purpose, digest), signature.signature, key)


def _invalid(what: str) -> Corrupt:
    return Corrupt(
        f"the signature {what}", "do not use what it covers: verify the log with tailorbird audit verify", code="signature_invalid"
    )
