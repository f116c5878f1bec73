"""The tree against RFC 6962's vectors, a direct transcription of its definitions, and forged proofs."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import merkle_proofs
from tailorbird.crypto import merkle

#: The eight entries, and the roots of their prefixes, of Certificate Transparency's reference test suite.
VECTOR = [bytes.fromhex(h) for h in ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
leaf_lists = st.integers(0, 70).map(lambda n: [merkle.leaf_hash(bytes([i])) for i in range(n)])


def plain_root(leaves: list[bytes]) -> bytes:
    """MTH as RFC 6962 §2.1 words it."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return merkle.node_hash(plain_root(leaves[:k]), plain_root(leaves[k:]))


def test_the_empty_tree_is_the_hash_of_nothing():
    assert merkle.root([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert merkle.Frontier().root() == merkle.EMPTY_ROOT == merkle.root([])


def test_published_roots():
    hashes = [merkle.leaf_hash(data) for data in VECTOR]
    assert [merkle.root(hashes[:size]).hex() for size in range(1, 9)] == ROOTS


def test_published_inclusion_proof():
    leaves = [merkle.leaf_hash(data) for data in VECTOR]
    assert [h.hex() for h in merkle_proofs.inclusion_proof(leaves, 5)] == [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]


@given(leaf_lists)
def test_root_is_as_the_standard_words_it(leaves):
    assert merkle.root(leaves) == plain_root(leaves)


@given(leaf_lists)
def test_frontier_grows_to_the_same_root(leaves):
    frontier = merkle.Frontier()
    for count, leaf in enumerate(leaves, start=1):
        frontier = frontier.append(leaf)
        assert frontier.size == count
        assert frontier.root() == plain_root(leaves[:count])
        assert len(frontier.edge) <= count.bit_length()


@pytest.mark.parametrize(("size", "edge"), [(1, ()), (3, (b"x" * 32,)), (1, (b"short",)), (-1, (b"x" * 32,)), (0, (b"x" * 32,))])
def test_a_frontier_that_cannot_be_is_refused(size, edge):
    with pytest.raises(ValueError, match="right edge"):
        merkle.Frontier(size, edge)


@given(leaf_lists, st.data())
def test_a_forged_inclusion_proof_fails(leaves, data):
    leaves.append(merkle.leaf_hash(b"last"))
    index = data.draw(st.integers(0, len(leaves) - 1))
    head, proof = plain_root(leaves), list(merkle_proofs.inclusion_proof(leaves, index))
    other = merkle.leaf_hash(b"other")
    assert not merkle.verify_inclusion(other, index, len(leaves), proof, head)
    assert not merkle.verify_inclusion(leaves[index], index, len(leaves), [*proof, other], head)
    assert not merkle.verify_inclusion(leaves[index], index, len(leaves), proof, other)
    if proof:
        place = data.draw(st.integers(0, len(proof) - 1))
        assert not merkle.verify_inclusion(leaves[index], index, len(leaves), proof[:place] + proof[place + 1 :], head)
        assert not merkle.verify_inclusion(leaves[index], index, len(leaves), [*proof[:place], other, *proof[place + 1 :]], head)


@given(leaf_lists, st.data())
def test_extending_is_appending_and_tells_every_subtree_once(leaves, data):
    cut = data.draw(st.integers(0, len(leaves)))
    first, finished = merkle.Frontier().extend(leaves[:cut])
    whole, later = first.extend(leaves[cut:])
    assert whole.root() == plain_root(leaves)
    assert not finished.keys() & later.keys()
    size = len(leaves)
    complete = {merkle.Node(level, n) for level in range(1, size.bit_length()) for n in range(size >> level)}
    told = finished | later
    assert told.keys() == complete
    for (level, number), hashed in told.items():
        assert hashed == plain_root(leaves[number << level : (number + 1) << level])
