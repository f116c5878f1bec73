"""llama.cpp reads texts as the tokenizer does, or the export is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import pytest

from support.gguf_models import job, metadata, write_exportable
from support.model_families import write_family
from support.oracle import edit_json
from tailorbird.domain.errors import InvalidInput
from tailorbird.inference import open_model_reader


def vocabulary(source: Path, target: Path) -> dict[str, Any]:
    open_model_reader().write_gguf(job(source, target))
    return {name.removeprefix("tokenizer."): value for name, value in metadata(target).items() if name.startswith("tokenizer.")}


def edit_tokenizer(source: Path, **changes: Any) -> None:
    edit_json(source / "tokenizer.json", **changes)


def test_tokens_merges_and_special_tokens_are_written(tmp_path: Path) -> None:
    source = write_exportable(tmp_path / "model", rules="llama-bpe")
    content = json.loads((source / "tokenizer.json").read_text())
    found = vocabulary(source, tmp_path / "model.gguf")
    assert (found["ggml.model"], found["ggml.pre"]) == ("gpt2", "llama-bpe")
    assert len(found["ggml.tokens"]) == len(found["ggml.token_type"]) == 320
    assert found["ggml.tokens"][content["model"]["vocab"]["the"]] == "the"
    assert found["ggml.merges"] == ["t h", "th e"]
    kinds = found["ggml.token_type"]
    assert kinds[:2] == [gguf.TokenType.CONTROL] * 2
    assert kinds[2] == gguf.TokenType.NORMAL
    assert (found["ggml.tokens"][-1], kinds[-1]) == ("[PAD319]", gguf.TokenType.UNUSED)
    assert (found["ggml.bos_token_id"], found["ggml.eos_token_id"], found["ggml.padding_token_id"]) == (0, 1, 1)
    assert found["chat_template"] == (source / "chat_template.jinja").read_text()


@pytest.mark.parametrize("begins", [True, False])
def test_a_prompt_begins_with_the_first_token_where_the_template_writes_it(begins: bool, tmp_path: Path) -> None:
    source = write_exportable(tmp_path / "model")
    template = (source / "chat_template.jinja").read_text()
    (source / "chat_template.jinja").write_text(template if begins else template.replace("<s>", "["))
    assert vocabulary(source, tmp_path / "model.gguf")["ggml.add_bos_token"] is begins


def write_with_ends(folder: Path, *ends: str) -> Path:
    """A model whose answers end with token 1, or with one of these, which are the tokens from 300 on; the first is special."""
    source = write_exportable(folder)
    content = json.loads((source / "tokenizer.json").read_text())
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    fill = [{"id": number, "content": f"<{number}>", "special": False, **flags} for number in range(260, 300)]
    added = [{"id": 300 + place, "content": end, "special": place == 0, **flags} for place, end in enumerate(ends)]
    edit_tokenizer(source, added_tokens=[*content["added_tokens"], *fill, *added])
    edit_json(source / "config.json", eos_token_id=[1, *(token["id"] for token in added)])
    return source


def test_more_ends_than_a_file_names_are_refused(tmp_path: Path) -> None:
    """An answer would go on past the fourth."""
    with pytest.raises(InvalidInput, match="more than three tokens end an answer") as caught:
        vocabulary(write_with_ends(tmp_path / "model", "<end>", "<call>", "<stop>"), tmp_path / "model.gguf")
    assert caught.value.error_code == "export_nothing"


@pytest.mark.parametrize("damage", ["unigram", "wordpiece", "bpe", "byte_fallback", "lower case", "swallowing"])
def test_a_tokenizer_that_llama_cpp_cannot_follow_is_refused(damage: str, tmp_path: Path) -> None:
    if damage in ("unigram", "wordpiece", "bpe"):  # the last one cuts as nothing in llama.cpp does
        source = write_family(tmp_path / "model", "llama", damage)
    else:
        source = write_exportable(tmp_path / "model")
        content = json.loads((source / "tokenizer.json").read_text())
        if damage == "byte_fallback":
            edit_tokenizer(source, model=content["model"] | {"byte_fallback": True})
        elif damage == "lower case":
            edit_tokenizer(source, normalizer={"type": "Lowercase"})
        else:
            edit_tokenizer(source, added_tokens=[token | {"rstrip": True} for token in content["added_tokens"]])
    with pytest.raises(InvalidInput) as caught:
        vocabulary(source, tmp_path / "model.gguf")
    assert caught.value.error_code == "export_nothing"
    assert "safetensors" in caught.value.hint
