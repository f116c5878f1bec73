"""Trees of which leaves are replaced, and hashes by one key: what those have that are made anew."""

from __future__ import annotations

import hashlib
import hmac

from hypothesis import given
from hypothesis import strategies as st

from tailorbird.crypto.keyed_hashes import keyed
from tailorbird.crypto.merkle import leaf_hash, root
from tailorbird.crypto.tree_levels import TreeLevels


@given(st.integers(0, 70), st.data())
def test_a_tree_whose_leaves_were_replaced_has_the_root_of_these(size: int, drawn: st.DataObject) -> None:
    leaves = [leaf_hash(b"%d" % number) for number in range(size)]
    levels = TreeLevels(leaves)
    assert levels.root == root(leaves)
    for turn in range(2):
        others = drawn.draw(st.sets(st.integers(0, size - 1))) if size else set[int]()
        changed = {place: leaf_hash(b"%d %d" % (turn, place)) for place in others}
        leaves = [changed.get(place, leaf) for place, leaf in enumerate(leaves)]
        levels.replace(changed)
        assert levels.leaves == leaves
        assert levels.root == root(leaves)


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_hashes_by_one_key_are_those_of_rfc_2104(key: bytes, message: bytes) -> None:
    assert keyed(key)(message) == hmac.digest(key, message, hashlib.sha256)
