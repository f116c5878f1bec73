"""Checkpoints are C2SP signed notes: an outside verifier must read them, and a changed one must not pass."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.auth import check_note, make_checkpoint, public_key, verifier_key
from tailorbird.auth.log_seal import key_hash
from tailorbird.domain.errors import Corrupt, InvalidInput
from tailorbird.domain.event import Checkpoint

NOW = datetime(2026, 3, 1, tzinfo=UTC)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = public_key(KEY)
ROOT = "00" * 31 + "2a"


def _checkpoint() -> Checkpoint:
    return make_checkpoint("tailorbird/log", 7, ROOT, KEY, NOW)


def test_the_key_hash_is_that_of_the_published_example() -> None:
    """The example of golang.org/x/mod/sumdb/note: PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW."""
    public = base64.b64encode(base64.b64decode("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")[1:]).decode()
    assert key_hash("PeterNeumann", public).hex() == "c74f20a3"
    assert verifier_key("PeterNeumann", public) == "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"


def test_the_note_has_the_published_form_and_verifies_by_hand() -> None:
    note = _checkpoint().note
    lines = note.split("\n")
    assert lines[:4] == ["tailorbird/log", "7", base64.b64encode(bytes.fromhex(ROOT)).decode(), ""]
    assert lines[5:] == [""]
    dash, name, blob = lines[4].split(" ")
    assert (dash, name) == ("—", "tailorbird/log")
    raw = base64.b64decode(blob)
    assert raw[:4] == key_hash("tailorbird/log", PUBLIC)
    signed = "\n".join(lines[:3]) + "\n"
    Ed25519PublicKey.from_public_bytes(base64.b64decode(PUBLIC)).verify(raw[4:], signed.encode())


def test_a_checkpoint_passes_with_its_key_and_with_no_other() -> None:
    check_note(_checkpoint(), PUBLIC)
    other = public_key(Ed25519PrivateKey.from_private_bytes(bytes(32)))
    with pytest.raises(Corrupt, match="not signed by the key of this log") as caught:
        check_note(_checkpoint(), other)
    assert caught.value.error_code == "checkpoint_invalid"


def test_a_witness_may_sign_below() -> None:
    witness = "— witness.example/w1 " + base64.b64encode(b"\x01\x02\x03\x04" + bytes(64)).decode() + "\n"
    check_note(_checkpoint().model_copy(update={"note": _checkpoint().note + witness}), PUBLIC)


@pytest.mark.parametrize("change", [{"size": 8}, {"root": "11" * 32}, {"origin": "elsewhere"}, {"root": "xyz"}])
def test_fields_that_differ_from_the_note_are_noticed(change: dict[str, object]) -> None:
    with pytest.raises(Corrupt, match="does not state"):
        check_note(_checkpoint().model_copy(update=change), PUBLIC)


def test_a_note_resigned_for_another_size_is_noticed() -> None:
    forged = _checkpoint().note.replace("\n7\n", "\n8\n", 1)
    with pytest.raises(Corrupt, match="not signed"):
        check_note(_checkpoint().model_copy(update={"note": forged, "size": 8}), PUBLIC)


@given(note=st.text(max_size=200))
def test_any_other_text_is_corrupt_and_nothing_worse(note: str) -> None:
    with pytest.raises(Corrupt):
        check_note(_checkpoint().model_copy(update={"note": note}), PUBLIC)


@pytest.mark.parametrize(
    ("origin", "size", "root"),
    [
        ("a b", 1, ROOT),
        ("log", -1, ROOT),
        ("log", 1, "00"),
    ],
)
def test_what_is_no_head_is_not_signed(origin: str, size: int, root: str) -> None:
    with pytest.raises(InvalidInput):
        make_checkpoint(origin, size, root, KEY, NOW)
