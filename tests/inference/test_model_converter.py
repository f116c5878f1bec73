"""What is read becomes safetensors, config, tokenizer and chat template; what cannot be is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from support.oracle import edit_json
from support.tiny_models import write_gguf, write_model
from tailorbird.chat.templates import DEFAULT, TEMPLATES
from tailorbird.chat.tokenizer import ChatTokenizer, read_tokenizer, special_tokens
from tailorbird.domain.errors import ModelInvalid
from tailorbird.inference import open_model_reader
from tailorbird.inference.model_converter import TransformersReader

pytestmark = pytest.mark.usefixtures("warm_converter")
FILES = {"model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}


def test_a_folder_is_rewritten(tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "target"
    target.mkdir()
    open_model_reader().convert(tiny, target)
    assert {path.name for path in target.iterdir()} >= FILES
    before, after = load_file(tiny / "model.safetensors"), load_file(target / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("kind", "named"), [("unigram", "GemmaTokenizer"), ("bpe", "T5Tokenizer"), ("wordpiece", "Qwen2Tokenizer")])
def test_texts_are_read_as_the_folders_own_tokenizer_reads_them(kind: str, named: str, tmp_path: Path) -> None:
    """transformers makes tokenizers of some classes anew, from the vocabulary alone: words came out as letters."""
    source, target = write_model(tmp_path / "source", kind), tmp_path / "target"
    edit_json(source / "tokenizer_config.json", tokenizer_class=named)
    target.mkdir()
    TransformersReader().convert_here(source, target)
    texts = ["the  card that the the", " leading", "A naïve one!?", "trailing "]
    own, kept = read_tokenizer(source), read_tokenizer(target)
    assert [kept.encode(text).ids for text in texts] == [own.encode(text).ids for text in texts]
    stock = AutoTokenizer.from_pretrained(target)
    assert [stock(text)["input_ids"] for text in texts] == [own.encode(text).ids for text in texts]


@pytest.mark.parametrize("form", ["folder", "gguf"])
def test_without_a_template_the_plain_one_is_given(form: str, tiny: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    target.mkdir()
    if form == "gguf":
        source = write_gguf(tmp_path / "model.gguf", template="")
    else:
        shutil.copytree(tiny, source)
        (source / "chat_template.jinja").unlink()
    open_model_reader().convert(source, target)
    assert (target / "chat_template.jinja").read_text(encoding="utf-8") == TEMPLATES[DEFAULT]
    end = read_tokenizer(target).token_to_id(special_tokens(target)["eos_token"])
    assert ChatTokenizer(target).answers(["the"])[0][-1] == end


@pytest.mark.parametrize("damage", ["remote code", "pickled", "no config", "not a model"])
def test_what_cannot_be_read_is_refused(damage: str, tiny: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    shutil.copytree(tiny, source)
    target.mkdir()
    if damage == "remote code":
        edit_json(source / "config.json", auto_map={"AutoModelForCausalLM": "evil.Model"})
    elif damage == "pickled":
        (source / "model.safetensors").unlink()
        torch.save({}, source / "pytorch_model.bin")
    elif damage == "no config":
        (source / "config.json").unlink()
    else:
        source = tmp_path / "text.gguf"
        source.write_bytes(b"GGUF of a kind" * 10)
    with pytest.raises(ModelInvalid):
        open_model_reader().convert(source, target)
    assert not list(target.iterdir())
