"""Finding entries: by words, by vectors, fused; and never what the asker may not read."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tailorbird.domain.dataset import EVERYONE
from tailorbird.domain.errors import ModelInvalid
from tailorbird.domain.prompt import Entry, PromptSpec
from tailorbird.text.label_rules import decide_label, without_priors
from tailorbird.text.search_index import K1, B, Bm25, SearchIndex, write_index

ANYBODY = frozenset({EVERYONE})


TEXTS = ("the cat sat on the mat", "dogs bark at cats", "interest rates rise")


def entry(place: int, text: str, *access: str) -> Entry:
    return Entry(id=f"e{place}", text=text, access=access or (EVERYONE,))


def test_bm25_is_the_published_formula() -> None:
    """The third text holds 'rate' once; three words, where the mean is 13 / 3."""
    idf = math.log(1 + (3 - 1 + 0.5) / (1 + 0.5))
    expected = idf * (K1 + 1) / (1 + K1 * (1 - B + B * 3 / (13 / 3)))
    assert Bm25(TEXTS).scores("rates")[2] == pytest.approx(expected)
    assert Bm25(TEXTS).scores("nothing of this kind").tolist() == [0, 0, 0]


@given(st.lists(st.text(max_size=30), max_size=8), st.text(max_size=30))
def test_any_texts_can_be_searched(texts: list[str], question: str) -> None:
    scores = Bm25(texts).scores(question)
    assert len(scores) == len(texts)
    assert (scores >= 0).all()


@pytest.fixture
def index(tmp_path: Path) -> SearchIndex:
    entries = [entry(0, TEXTS[0]), entry(1, TEXTS[1], "staff"), entry(2, TEXTS[2], "board", "staff"), entry(3, "cat secrets")]
    entries[3] = entries[3].model_copy(update={"access": ()})
    write_index(tmp_path, entries, np.eye(4, dtype=np.float32))
    return SearchIndex(tmp_path)


@pytest.mark.parametrize(
    ("groups", "seen"), [(ANYBODY, {"e0"}), (ANYBODY | {"staff"}, {"e0", "e1", "e2"}), (frozenset({"board"}), {"e0", "e2"})]
)
@pytest.mark.parametrize("vectors", [(), (np.array([0, 0, 0, 1], dtype=np.float32),)])
def test_what_the_asker_may_not_read_is_never_found(
    index: SearchIndex, groups: frozenset[str], seen: set[str], vectors: tuple[NDArray[np.float32], ...]
) -> None:
    """Not even where it fits best, and an empty access list is for nobody."""
    for question in ("cat secrets", ""):
        found = index.find(question, vectors, groups, 10)
        assert {one.entry.id for one in found} <= seen


def test_vectors_find_what_words_do_not_and_fusion_takes_both(index: SearchIndex) -> None:
    everything = ANYBODY | {"staff"}
    towards_rates = np.array([0, 0, 1, 0], dtype=np.float32)
    assert index.find("", [towards_rates], everything, 1)[0].entry.id == "e2"
    assert index.find("cats bark", (), everything, 1)[0].entry.id == "e1"
    assert {one.entry.id for one in index.find("bark", [towards_rates], everything, 2)} == {"e1", "e2"}


def test_what_shares_no_word_has_no_rank_by_words() -> None:
    """Ranked as they lie in the index, the first entry would come before the one that the vectors find."""
    index = SearchIndex.of([entry(place, text) for place, text in enumerate(TEXTS)], np.eye(3, dtype=np.float32))
    towards = np.array([0, 0.2, 0.9], dtype=np.float32)
    for question in ("", "nothing of this kind", "ein Wort, das fehlt"):
        assert [one.entry.id for one in index.find(question, [towards], ANYBODY, 3)] == ["e2", "e1", "e0"]
    assert [one.entry.id for one in index.find("sat", [towards], ANYBODY, 3)] == ["e0", "e2", "e1"]


@pytest.mark.parametrize(
    ("question", "texts"),
    [
        ("车被偷了怎么办", ("屋顶漏水需要报销。", "我的车被偷了,请帮忙。")),
        ("ประกันรถยนต์", ("บ้านน้ำท่วม", "เคลมประกันภัยรถยนต์")),
    ],
)
def test_words_of_every_script_are_found(question: str, texts: tuple[str, ...]) -> None:
    scores = Bm25(texts).scores(question)
    assert scores[1] > scores[0]


def test_a_damaged_index_is_told(tmp_path: Path) -> None:
    (tmp_path / "entries.jsonl").write_text("not json\n")
    with pytest.raises(ModelInvalid) as told:
        SearchIndex(tmp_path)
    assert told.value.error_code == "model_invalid"


def test_what_a_model_prefers_before_it_has_read_is_taken_off() -> None:
    """A model that says 'a' nine times of ten whatever it reads, and eight times of ten now, has read something that speaks for 'b'."""
    prompt = PromptSpec(instruction="", labels=("a", "b"), priors=(math.log(0.9), math.log(0.1)))
    scores = (math.log(0.8), math.log(0.2))
    assert decide_label(prompt, scores).answer == "b"
    assert sum(math.exp(nats) for nats in without_priors(prompt, scores)) == pytest.approx(1)
    assert without_priors(prompt.model_copy(update={"priors": ()}), scores) == scores
