"""Documents cut to passages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tailorbird.domain.dataset import Document
from tailorbird.text.search_index import WORDS, passages_of


@given(st.text(max_size=600), st.integers(1, 200))
def test_passages_hold_every_word_once_and_keep_the_access_list(text: str, repeat: int) -> None:
    document = Document(id="d", text=f"{text} word. " * repeat, access=("staff",))
    passages = passages_of(document)
    assert "".join("".join(passage.text for passage in passages).split()) == "".join(document.text.split())
    assert all(passage.access == ("staff",) for passage in passages)
    assert len({passage.id for passage in passages}) == len(passages)


def test_texts_without_spaces_are_cut_too() -> None:
    """A handbook in Chinese was one passage, too long for any prompt."""
    chinese = "保险期间为一年,自合同生效日起计算。如有疑问,请联系我们!" * 200
    for text in (chinese, "ประกันภัยรถยนต์" * 500, "x" * 100_000, chinese.replace("。", "").replace("!", "")):
        passages = passages_of(Document(id="d", text=text))
        assert "".join(passage.text for passage in passages) == text
        assert max(len(passage.text) for passage in passages) <= (24_000 if text.startswith("x") else 2.5 * WORDS)
    first = passages_of(Document(id="d", text=chinese))[0].text
    assert first.endswith(("。", "!"))
    assert " " not in first
