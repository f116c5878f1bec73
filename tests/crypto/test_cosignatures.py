"""Cosignatures and the requests for them, in the forms of c2sp.org/tlog-cosignature and c2sp.org/tlog-witness."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tailorbird.auth import make_checkpoint
from tailorbird.crypto.cosignatures import (
    AddCheckpoint,
    add_checkpoint_body,
    cosign,
    cosignatures,
    read_add_checkpoint,
    read_witness_key,
    with_lines,
    witness_key,
)
from tailorbird.crypto.ed25519 import public_text
from tailorbird.crypto.signed_notes import check_note, read_note
from tailorbird.domain.errors import Corrupt, InvalidInput

NOW = datetime(2026, 3, 1, tzinfo=UTC)
LOG, WITNESS = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
NAME = "witness.example/w1"
CHECKPOINT = make_checkpoint("tailorbird/log", 42, "ab" * 32, LOG, NOW)


def test_the_message_and_the_line_are_those_of_the_specification() -> None:
    """Bytes put together here by hand, as the specification says them."""
    line = cosign(CHECKPOINT.note, NAME, WITNESS, NOW)
    name, blob = line.removeprefix("— ").strip().split(" ")
    raw = base64.b64decode(blob)
    seconds = int(NOW.timestamp())
    root = base64.b64encode(bytes.fromhex("ab" * 32)).decode()
    message = f"cosignature/v1\ntime {seconds}\ntailorbird/log\n42\n{root}\n".encode()
    assert name == NAME
    assert int.from_bytes(raw[4:12], "big") == seconds
    WITNESS.public_key().verify(raw[12:], message)


def test_the_example_of_the_specification_is_read() -> None:
    """Key hashes of the two lines in c2sp.org/tlog-cosignature: the witness's line has 4 + 8 + 64 bytes."""
    note = (
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
        "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
        "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZ"
        "qhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
    )
    assert read_note(note, NOW).size == 20852163


def test_a_cosigned_note_holds_for_log_and_witness() -> None:
    witness = read_witness_key(witness_key(NAME, public_text(WITNESS)))
    cosigned = with_lines(CHECKPOINT.note, cosign(CHECKPOINT.note, NAME, WITNESS, NOW), witness)
    check_note(CHECKPOINT.model_copy(update={"note": cosigned}), public_text(LOG))
    assert [at for _, at in cosignatures(cosigned, witness)] == [NOW]


@pytest.mark.parametrize("wrong", ["another note", "another key", "another name", "nothing"])
def test_what_is_no_cosignature_of_the_witness_is_left_out(wrong: str) -> None:
    witness = read_witness_key(witness_key(NAME, public_text(WITNESS)))
    other = make_checkpoint("tailorbird/log", 43, "ab" * 32, LOG, NOW)
    lines = {
        "another note": cosign(other.note, NAME, WITNESS, NOW),
        "another key": cosign(CHECKPOINT.note, NAME, LOG, NOW),
        "another name": cosign(CHECKPOINT.note, "w2", WITNESS, NOW),
        "nothing": cosign(CHECKPOINT.note, "w2", LOG, NOW),
    }
    with pytest.raises(Corrupt, match="no cosignature"):
        with_lines(CHECKPOINT.note, lines[wrong], witness)


def test_a_request_is_read_as_it_was_written() -> None:
    proof = ("cd" * 32, "ef" * 32)
    assert read_add_checkpoint(add_checkpoint_body(7, proof, CHECKPOINT.note)) == AddCheckpoint(7, proof, CHECKPOINT.note)
    assert read_add_checkpoint(add_checkpoint_body(0, (), CHECKPOINT.note)) == AddCheckpoint(0, (), CHECKPOINT.note)


@pytest.mark.parametrize("body", [b"", b"old 07\n\nx", b"old x\n\nx", b"old 7\nAAAA\n\nx", b"old 7\n" + b"A" * 44 + b"\n" * 2, b"\xff"])
def test_what_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        read_add_checkpoint(body)


@pytest.mark.parametrize("text", ["", "w", "w+00000000+AAAA", "w+zz+" + "A" * 44])
def test_what_is_no_key_of_a_witness_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        read_witness_key(text)
