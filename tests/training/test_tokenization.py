"""Rows of token ids: what is read, what is learned, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tailorbird.domain.errors import ModelInvalid
from tailorbird.training.batches import RowTokenizer


def with_template(base: Path, folder: Path, template: str) -> Path:
    shutil.copytree(base, folder)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return folder


def test_a_tokenizer_that_cannot_be_read_is_a_model_error(tiny_base: Path, tmp_path: Path) -> None:
    folder = with_template(tiny_base, tmp_path / "broken", "x")
    (folder / "tokenizer.json").write_text("{", encoding="utf-8")
    (folder / "tokenizer_config.json").unlink()
    (folder / "config.json").unlink()
    with pytest.raises(ModelInvalid) as caught:
        RowTokenizer(folder)
    assert caught.value.error_code == "model_unreadable"
