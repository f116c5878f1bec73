"""Near-duplicates: what is found is right, what is alike is rarely missed, and neither depends on what stands beside it."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from support.disjoint_sets import Forest
from tailorbird.data.duplicates import minhash
from tailorbird.data.duplicates.near_duplicates import alike, alike_pairs, histograms, may_be_reordered, near_duplicates

WORDS = ["card", "lost", "my", "where", "is", "refund", "the", "order", "yesterday", "transfer"]
SENTENCES = st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join)
SHUFFLED = SENTENCES.flatmap(lambda text: st.tuples(st.just(text), st.permutations(text.split()).map(" ".join)))
PAIRS = st.tuples(SENTENCES, SENTENCES) | SHUFFLED


def message(number: int) -> str:
    drawn = random.Random(number)
    return " ".join("".join(drawn.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(drawn.randint(3, 9))) for _ in range(9))


def edited(text: str, edits: int, drawn: random.Random) -> str:
    letters = list(text)
    for _ in range(edits):
        place = drawn.randrange(len(letters))
        letters[place] = drawn.choice("abcdefghijklmnopqrstuvwxyz")
    return "".join(letters)


@given(st.lists(SENTENCES, max_size=25, unique=True))
def test_what_is_found_is_alike_and_no_pair_is_needless(texts: list[str]) -> None:
    found = near_duplicates(texts)
    forest = Forest(len(texts))
    for one, other in found:
        assert one < other
        assert alike(texts[one], texts[other])
        forest.join(one, other)
    assert found == sorted(set(found))


@given(st.lists(PAIRS, min_size=1, max_size=20))
@example([("a b c d e f g h i j k l", "l a b c d e f g h i j k"), ("one two", "two one"), ("one word more of these", "of these one word")])
@example([(" ".join(map(str, range(10, 50))), " ".join(map(str, range(49, 9, -1))))])
def test_many_pairs_are_judged_as_one_is(pairs: list[tuple[str, str]]) -> None:
    ones, others = [one for one, _ in pairs], [other for _, other in pairs]
    longest = np.array([max(map(len, pair)) for pair in pairs], dtype=np.int32)
    orders = may_be_reordered(histograms(ones), histograms(others), longest)
    assert alike_pairs(ones, others, orders).tolist() == [alike(one, other) for one, other in pairs]


def test_a_signature_is_the_same_whatever_stands_beside_the_text_and_in_any_version() -> None:
    texts = ["where is my card", "lost", *map(message, range(5000))]
    together = minhash.sign(texts)
    assert np.array_equal(together[:, :1], minhash.sign(["where is my card"]))
    assert np.array_equal(together[:, -1:], minhash.sign(texts[-1:]))
    assert together[:3, 0].tolist() == [number & 0xFFFF for number in (142_362_129, 605_353_690, 642_365_071)]


def test_edits_word_order_and_both_are_found_among_thousands() -> None:
    drawn = random.Random(1)
    texts = [message(number) for number in range(2000)]
    planted = {}
    for number in range(0, 300, 3):
        words = texts[number].split()
        drawn.shuffle(words)
        planted[number] = [" ".join(words), edited(texts[number], len(texts[number]) // 20, drawn)]
    everything = texts + [text for both in planted.values() for text in both]
    place = {text: number for number, text in enumerate(everything)}
    forest = Forest(len(everything))
    for one, other in near_duplicates(everything):
        forest.join(one, other)
    assert all(forest.joined(number, place[text]) for number, both in planted.items() for text in both)
    assert len({forest.root(number) for number in range(2000)}) == 2000


def test_a_typo_is_near_and_another_question_is_not() -> None:
    texts = [
        "i still have not received my new card, i ordered it over a week ago.",
        "i still have not received my new card, i orderd it over a week ago.",
        "i ordered it over a week ago. i still have not received my new card,",
        "i still have not received my refund",
        "hi",
        "i",
    ]
    assert {place for pair in near_duplicates(texts) for place in pair} == {0, 1, 2}
    assert near_duplicates([]) == near_duplicates(["alone"]) == []
