"""Bytes of tokens: words, halves of characters, control tokens, and rows behind the end of the vocabulary."""

from __future__ import annotations

from pathlib import Path

from support.gguf_models import sentence_pieces, write_exportable
from tailorbird.chat.tokenizer import TokenBytes, read_tokenizer


def test_of_a_vocabulary_that_writes_bytes_as_letters(tmp_path: Path) -> None:
    tokenizer = read_tokenizer(write_exportable(tmp_path / "model"))
    names = TokenBytes(tokenizer)
    told = [names.of(tokenizer.token_to_id(name)) for name in ("Ġ", "ð", "</s>")]
    assert told == [b" ", b"\xf0", b"</s>"]
    assert names.of(tokenizer.get_vocab_size() + 5) == b""


def test_of_a_vocabulary_that_names_bytes() -> None:
    tokenizer = sentence_pieces()
    names = TokenBytes(tokenizer)
    assert [names.of(tokenizer.token_to_id(name)) for name in ("▁", "<0xF0>", "</s>")] == [b" ", b"\xf0", b"</s>"]
