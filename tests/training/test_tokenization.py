"""Rows of token ids: what is read, what is learned, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from support.training_samples import PROMPT, examples
from tailorbird.chat.prompts import messages_for
from tailorbird.chat.templates import render
from tailorbird.domain.errors import ModelInvalid
from tailorbird.training.batches import RowTokenizer


def with_template(base: Path, folder: Path, template: str) -> Path:
    shutil.copytree(base, folder)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return folder


def test_prompt_tokens_are_those_of_inference_and_the_turn_end_is_learned(tiny_base: Path) -> None:
    (example,) = examples(1)
    (row,) = RowTokenizer(tiny_base).encode(PROMPT, [example])
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    template = (tiny_base / "chat_template.jinja").read_text(encoding="utf-8")
    rendered = render(template, messages_for(PROMPT, example.text))
    assert list(row.ids[: row.prompt]) == tokenizer.encode(rendered, add_special_tokens=False)
    assert row.ids.count(tokenizer.bos_token_id) == rendered.count("<|im_start|>")
    assert tokenizer.decode(row.ids[row.prompt :]) == example.target + "<|im_end|>"


def test_a_tokenizer_that_cannot_be_read_is_a_model_error(tiny_base: Path, tmp_path: Path) -> None:
    folder = with_template(tiny_base, tmp_path / "broken", "x")
    (folder / "tokenizer.json").write_text("{", encoding="utf-8")
    (folder / "tokenizer_config.json").unlink()
    (folder / "config.json").unlink()
    with pytest.raises(ModelInvalid) as caught:
        RowTokenizer(folder)
    assert caught.value.error_code == "model_unreadable"
