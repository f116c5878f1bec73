"""A signature holds for one person, one key, one purpose, one digest, and for nothing else."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.auth import public_key, sign, signed_bytes, verify
from tailorbird.domain.errors import Corrupt, InvalidInput
from tailorbird.domain.identity import Identity, Role, Signature

NOW = datetime(2026, 3, 1, tzinfo=UTC)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
DIGEST = "sha256:" + "ab" * 32
OTHER_DIGEST = "sha256:" + "cd" * 32


def _person(name: str = "ada", key: Ed25519PrivateKey = KEY) -> Identity:
    return Identity(tenant="acme", name=name, roles=frozenset({Role.APPROVER}), public_key=public_key(key), created_at=NOW)


def _signature() -> Signature:
    return sign(KEY, "ada", "approve", DIGEST, NOW)


def test_signed_bytes_are_the_stated_form() -> None:
    assert signed_bytes("approve", DIGEST) == b"tailorbird/approve/v1\nsha256:" + b"ab" * 32 + b"\n"


def test_a_signature_verifies_and_is_the_same_each_time() -> None:
    verify(_signature(), identity=_person(), purpose="approve", digest=DIGEST)
    assert _signature() == _signature()


@pytest.mark.parametrize(
    ("identity", "purpose", "digest", "names"),
    [
        (_person(name="eve"), "approve", DIGEST, "not by eve"),
        (_person(key=OTHER_KEY), "approve", DIGEST, "not made with the key registered for ada"),
        (_person(), "reject", DIGEST, "another purpose"),
        (_person(), "approve", OTHER_DIGEST, "another digest"),
    ],
)
def test_a_signature_proves_nothing_else(identity: Identity, purpose: str, digest: str, names: str) -> None:
    with pytest.raises(Corrupt, match=names) as caught:
        verify(_signature(), identity=identity, purpose=purpose, digest=digest)
    assert caught.value.error_code == "signature_invalid"


def test_relabelling_a_signature_does_not_move_it() -> None:
    moved = _signature().model_copy(update={"digest": OTHER_DIGEST})
    with pytest.raises(Corrupt, match="does not verify"):
        verify(moved, identity=_person(), purpose="approve", digest=OTHER_DIGEST)
    renamed = _signature().model_copy(update={"purpose": "release"})
    with pytest.raises(Corrupt, match="does not verify"):
        verify(renamed, identity=_person(), purpose="release", digest=DIGEST)


@given(place=st.integers(min_value=0, max_value=511))
def test_one_changed_bit_is_noticed(place: int) -> None:
    raw = bytearray(base64.b64decode(_signature().signature))
    raw[place // 8] ^= 1 << (place % 8)
    changed = _signature().model_copy(update={"signature": base64.b64encode(bytes(raw)).decode()})
    with pytest.raises(Corrupt):
        verify(changed, identity=_person(), purpose="approve", digest=DIGEST)


@pytest.mark.parametrize("text", ["", "====", "not base64!", "AAAA", "é"])
def test_a_signature_that_is_no_base64_is_corrupt(text: str) -> None:
    with pytest.raises(Corrupt):
        verify(_signature().model_copy(update={"signature": text}), identity=_person(), purpose="approve", digest=DIGEST)


@pytest.mark.parametrize(
    ("purpose", "digest"),
    [
        ("", DIGEST),
        ("a/b", DIGEST),
        ("a\nb", DIGEST),
        ("approve", "ab" * 32),
    ],
)
def test_what_could_be_read_two_ways_is_not_signed(purpose: str, digest: str) -> None:
    with pytest.raises(InvalidInput):
        signed_bytes(purpose, digest)
