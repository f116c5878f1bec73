"""Documents cut to passages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tailorbird.domain.dataset import Document
from tailorbird.text.passages import WORDS, passages_of


@given(st.text(max_size=600), st.integers(1, 200))
def test_passages_hold_every_word_once_and_keep_the_access_list(text: str, repeat: int) -> None:
    document = Document(id="d", text=f"{text} word. " * repeat, access=("staff",))
    passages = passages_of(document)
    assert " ".join(passage.text for passage in passages).split() == document.text.split()
    assert all(passage.access == ("staff",) for passage in passages)
    assert len({passage.id for passage in passages}) == len(passages)


def test_passages_are_short() -> None:
    document = Document(id="d", text="One sentence of six words here. " * 100)
    endless = document.model_copy(update={"text": "word " * 1000})
    assert max(len(passage.text.split()) for one in (document, endless) for passage in passages_of(one)) <= WORDS
