"""Presence and absence in a set, proved and, where anything is changed, not proved."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.crypto.merkle import EMPTY_ROOT, Members, Proof, TreeHead, TreePlace, key_of, verify_membership

SALT = b"s" * 32
names = st.sets(st.text(max_size=8), max_size=40)


def members(of: set[str]) -> Members:
    return Members((key_of(SALT, name), hashlib.sha256(name.encode()).digest()) for name in of)


@given(names, st.text(max_size=8))
def test_every_name_is_proved_present_or_absent(inside: set[str], asked: str) -> None:
    some = members(inside)
    proof = some.prove(key_of(SALT, asked))
    assert proof.present == (asked in inside)
    assert verify_membership(proof, some.head)


@given(names, st.text(max_size=8))
def test_no_proof_holds_for_another_set(inside: set[str], asked: str) -> None:
    some, other = members(inside), members(inside ^ {asked})
    assert not verify_membership(some.prove(key_of(SALT, asked)), other.head)


@given(names.filter(lambda of: len(of) > 2))
def test_a_member_cannot_be_hidden_behind_neighbours_that_are_none(inside: set[str]) -> None:
    """The forger proves the places around a member, as if they stood side by side, or leaves one of them out."""
    some = members(inside)
    keys = sorted(key_of(SALT, name) for name in inside)
    for at in range(1, len(keys) - 1):
        before, after = (some.prove(keys[at + step]).member for step in (-1, 1))
        key = keys[at].hex()
        assert not verify_membership(Proof(key=key, before=before, after=after), some.head)
        assert not verify_membership(Proof(key=key, before=before), some.head)
        assert not verify_membership(Proof(key=key, after=after), some.head)
        assert not verify_membership(Proof(key=key), some.head)


def test_a_smaller_size_does_not_make_an_inner_member_the_last() -> None:
    some = members({"a", "b", "c", "d"})
    last_but_one = some.prove(sorted(key_of(SALT, name) for name in "abcd")[2]).member
    forged = Proof(key="f" * 64, before=last_but_one)
    assert not verify_membership(forged, TreeHead(root=some.head.root, size=3))


@pytest.mark.parametrize("change", [{"content": "00" * 32}, {"index": 0}, {"key": "zz"}, {"path": ("q",)}])
def test_a_changed_place_proves_nothing(change: dict[str, object]) -> None:
    some = members({"a", "b", "c"})
    key = sorted(key_of(SALT, name) for name in "abc")[1]
    proof = some.prove(key)
    assert proof.member is not None
    changed = TreePlace.model_validate(proof.member.model_dump() | change)
    assert not verify_membership(proof.model_copy(update={"member": changed}), some.head)


def test_hashes_of_other_lengths_and_keys_twice_are_refused() -> None:
    with pytest.raises(ValueError):
        Members([(b"short", b"c" * 32)])
    with pytest.raises(ValueError):
        Members([(b"k" * 32, b"a" * 32), (b"k" * 32, b"b" * 32)])
    assert not verify_membership(Proof(key="00"), TreeHead(root=EMPTY_ROOT.hex(), size=0))
