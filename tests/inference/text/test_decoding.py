"""Text streams: whole characters, and stop strings across pieces; and the likeliest tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tailorbird.chat.tokenizer import read_tokenizer
from tailorbird.inference.text.decoding import StopWatch, TextStream


@pytest.fixture(scope="module")
def tokenizer(base_model_folder: Path) -> Tokenizer:
    return read_tokenizer(base_model_folder)


@pytest.mark.parametrize("text", ["naïve café", "☂ umbrella ☔", "日本語のテキスト", "👩‍👩‍👧 family", "a  b\n\nc\t", ""])
def test_multibyte_characters_come_whole(text: str, tokenizer: Tokenizer) -> None:
    stream, shown = TextStream(tokenizer, ()), []
    for token in tokenizer.encode(text, add_special_tokens=False).ids:
        shown.append(stream.feed(token))
    shown.append(stream.finish())
    assert "".join(shown) == text
    assert all("�" not in piece for piece in shown)


words = st.text(alphabet="ab", max_size=8)


@given(st.lists(words, max_size=6), st.lists(st.text(alphabet="ab", min_size=1, max_size=3), max_size=3))
def test_stop_strings_are_found_across_pieces(pieces: list[str], stops: list[str]) -> None:
    watch = StopWatch(stops)
    shown = "".join(watch.feed(piece) for piece in pieces)
    whole = "".join(pieces)
    # The earliest end of a stop string decides, as for a reader of a stream; of those that end there the longest is cut away.
    ends = [(at + len(stop), at) for stop in stops if (at := whole.find(stop)) >= 0]
    if ends:
        assert watch.stopped
        assert not any(stop in shown for stop in stops)
        assert whole.startswith(shown)
    else:
        assert not watch.stopped
        assert shown + watch.finish() == whole
