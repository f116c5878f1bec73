"""Token tries of labels: every label once, and each node sees its ancestors."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tailorbird.inference.text.label_tree import build_trie

tokens = st.integers(min_value=3, max_value=6)


label_sets = st.lists(st.lists(tokens, min_size=1, max_size=4).map(tuple), min_size=1, max_size=12, unique=True)


@given(label_sets)
def test_a_trie_holds_every_label_once(labels: list[tuple[int, ...]]) -> None:
    trie = build_trie([[*label, 2] for label in labels])
    spelled = []
    for path in trie.paths:
        at, word = 0, []
        for edge in path:
            assert trie.edge_sources[edge] == at
            word.append(trie.edge_tokens[edge])
            if word[-1] != 2:
                children = [
                    node + 1 for node, parent in enumerate(trie.parents) if parent == at - 1 and trie.tokens[node] == trie.edge_tokens[edge]
                ]
                [at] = children
        spelled.append(tuple(word[:-1]))
    assert spelled == labels
    assert len(trie.tokens) == len({label[:length] for label in labels for length in range(1, len(label) + 1)})
    assert list(trie.edge_sources) == sorted(trie.edge_sources)


@given(label_sets)
def test_nodes_see_themselves_and_their_ancestors(labels: list[tuple[int, ...]]) -> None:
    trie = build_trie([[*label, 2] for label in labels])
    counts, chain = trie.ancestry
    assert counts.tolist() == list(trie.depths)
    at = 0
    for node, count in enumerate(counts):
        seen = chain[at : at + count].tolist()
        assert seen[-1] == node
        assert [trie.parents[each] for each in seen] == [-1, *seen[:-1]]
        at += count
    assert at == len(chain)
