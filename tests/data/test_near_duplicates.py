"""Near-duplicates: the search is exact."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tailorbird.data.duplicates.near import Forest, alike, grams, near_duplicates, sketch

SENTENCES = st.lists(st.sampled_from(["card", "lost", "my", "where", "is", "refund", "the", "order"]), min_size=1, max_size=12).map(
    " ".join
)

#: Texts that differ at their ends only, so that many lie just above and just below the threshold.
ENDINGS = st.tuples(st.sampled_from(["abcdefghijklmnopqrstuv", "abcdefghijkl"]), st.text("wxyz", max_size=5)).map("".join)


def parts(count: int, pairs: list[tuple[int, int]]) -> set[frozenset[int]]:
    forest = Forest(count)
    for one, other in pairs:
        forest.join(one, other)
    sets: dict[int, set[int]] = {}
    for node in range(count):
        sets.setdefault(forest.root(node), set()).add(node)
    return {frozenset(part) for part in sets.values()}


@given(st.lists(SENTENCES, max_size=25, unique=True) | st.lists(ENDINGS, max_size=12, unique=True))
def test_chains_are_those_of_comparing_every_pair(texts: list[str]) -> None:
    every = [(a, b) for b in range(len(texts)) for a in range(b) if alike(grams(texts[a]), grams(texts[b]))]
    found = near_duplicates(texts)
    assert set(found) <= {(a, b) for pair in every for a, b in (pair, pair[::-1])}
    assert parts(len(texts), found) == parts(len(texts), every)
    assert len(found) == len(texts) - len(parts(len(texts), found))


@given(st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30), min_size=1))
def test_alike_is_jaccard_of_four_fifths(one: set[int], other: set[int]) -> None:
    a, b = {str(n) for n in one}, {str(n) for n in other}
    assert alike(a, b) == (len(a & b) * 5 >= len(a | b) * 4)


@given(st.sets(st.text(max_size=3), max_size=200), st.sets(st.text(max_size=3), max_size=200))
def test_sketches_never_rule_out_what_is_alike(one: set[str], other: set[str]) -> None:
    smaller, larger = sorted((one, other | one), key=len)
    if len(smaller) * 8 >= len(larger) * 4:
        assert sketch(smaller).lacking(sketch(larger)) <= len(smaller - larger)
        assert sketch(larger).lacking(sketch(smaller)) <= len(larger - smaller)
    assert sketch(smaller).may_be_like(sketch(larger)) or not alike(smaller, larger)


def test_a_typo_is_near_and_another_question_is_not() -> None:
    texts = [
        "i still have not received my new card, i ordered it over a week ago.",
        "i still have not received my new card, i orderd it over a week ago.",
        "i still have not received my refund",
        "hi",
    ]
    assert near_duplicates(texts) == [(1, 0)]
