"""Sentence encoders of many families: what comes from their own files is what transformers computes by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer

from support.encoders import write_pooling, write_prompts
from support.model_families import ENCODERS, write_family
from support.oracle import edit_json
from tailorbird.base_models.encoder_vectors import read_encoder
from tailorbird.domain.base_model import EncoderDescription, EncoderPrefixes
from tailorbird.domain.errors import ModelInvalid
from tailorbird.inference import open_encoder, open_model_reader
from tailorbird.inference.model_converter import TransformersReader

TEXTS = ["a red fox", "", "the second text is longer than the first one, by far", "日本 naïve"]
PREFIXES = {"query": "ask: ", "document": "find: "}
#: Every family, and a decoder whose last token makes the vector.
FAMILIES = [*sorted(ENCODERS), "qwen3"]


def written(folder: Path, family: str, rule: str = "mean", **pooling: int) -> Path:
    """A folder as it lies on the hub."""
    write_family(folder, family)
    (folder / "encoder.json").unlink(missing_ok=True)
    return write_prompts(write_pooling(folder, rule, **pooling), PREFIXES)


def converted(source: Path, target: Path, stated: EncoderDescription | None = None) -> Path:
    target.mkdir()
    TransformersReader().convert_here(source, target, stated)
    return target


def by_hand(source: Path, texts: list[str], rule: str) -> NDArray[np.float32]:
    """Pooled hidden states, one text at a time."""
    tokenizer, model = AutoTokenizer.from_pretrained(source), AutoModel.from_pretrained(source, dtype=torch.float32).eval()
    found = []
    for text in texts:
        ids = tokenizer(text, return_tensors="pt", truncation=True, max_length=200)["input_ids"]
        with torch.inference_mode():
            [hidden_TH] = model(input_ids=ids).last_hidden_state
        found.append({"cls": hidden_TH[0], "mean": hidden_TH.mean(0), "max": hidden_TH.amax(0), "lasttoken": hidden_TH[-1]}[rule])
    return torch.stack(found).numpy()


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    made: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return made


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_embeds_as_transformers_does(family: str, tmp_path: Path) -> None:
    rule = "lasttoken" if family == "qwen3" else "cls" if family in ("bert", "modernbert") else "mean"
    source = written(tmp_path / "source", family, rule)
    texts = TEXTS if family != "qwen3" else [text for text in TEXTS if text]
    folder, encoder = converted(source, tmp_path / "target"), open_encoder()
    for purpose, prefix in (("query", "ask: "), ("passage", "find: "), ("text", "")):
        given = [text for text in texts if prefix + text] if prefix else [text for text in texts if text]
        found = encoder.embed(folder, given, purpose=purpose)  # type: ignore[arg-type]
        np.testing.assert_allclose(found, unit(by_hand(source, [prefix + text for text in given], rule)), atol=1e-5)
    described = read_encoder(folder)
    assert described.description.prefixes == EncoderPrefixes(query="ask: ", passage="find: ")
    assert described.layers in (2, 4)
    assert described.linear_shapes
    assert not (folder / "chat_template.jinja").exists()


def test_a_text_is_read_up_to_the_last_position(tmp_path: Path) -> None:
    folder, encoder = converted(written(tmp_path / "source", "xlm-roberta"), tmp_path / "target"), open_encoder()
    assert read_encoder(folder).description.max_tokens == encoder.count_tokens(folder, ["far " * 1000]) == 254
    assert np.isfinite(encoder.embed(folder, ["far " * 1000])).all()


def test_the_files_bound_the_tokens_and_the_catalogue_where_they_do_not(tmp_path: Path) -> None:
    source = written(tmp_path / "source", "bert")
    stated = EncoderDescription(max_tokens=30, width=32, prefixes=EncoderPrefixes(text="not mine: "))
    assert read_encoder(converted(source, tmp_path / "stated", stated)).description.max_tokens == 30
    (source / "sentence_bert_config.json").write_text('{"max_seq_length": 20}')
    found = read_encoder(converted(source, tmp_path / "own", stated)).description
    assert (found.max_tokens, found.prefixes.text) == (20, "")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("weightedmean", "model_unsupported"),
        ("two rules", "model_unsupported"),
        ("outside", "model_unsupported"),
        ("linear layer", "model_unsupported"),
        ("remote code", "model_unsafe"),
        ("classifier", "model_unsupported"),
    ],
)
def test_what_cannot_be_computed_here_is_refused(change: str, code: str, tmp_path: Path) -> None:
    source = written(tmp_path / "source", "bert", "weightedmean" if change == "weightedmean" else "mean")
    modules = json.loads((source / "modules.json").read_text())
    if change == "two rules":
        edit_json(source / "1_Pooling" / "config.json", pooling_mode_cls_token=True)
    elif change == "outside":
        modules[1] |= {"path": "../1_Pooling"}
        (source / "modules.json").write_text(json.dumps(modules))
    elif change == "linear layer":
        (source / "modules.json").write_text(json.dumps([*modules, {"path": "3_Dense", "type": "sentence_transformers.models.Dense"}]))
    elif change == "remote code":
        edit_json(source / "config.json", auto_map={"AutoModel": "modeling.NewModel"})
    elif change == "classifier":
        (source / "modules.json").unlink()
        edit_json(source / "config.json", architectures=["BertForSequenceClassification"])
    with pytest.raises(ModelInvalid) as refused:
        converted(source, tmp_path / "target")
    assert refused.value.error_code == code
    assert refused.value.hint


def test_foreign_files_are_read_by_a_confined_process(tmp_path: Path, warm_converter: None) -> None:
    source, target = written(tmp_path / "source", "distilbert"), tmp_path / "target"
    target.mkdir()
    open_model_reader().convert(source, target)
    np.testing.assert_allclose(open_encoder().embed(target, TEXTS), unit(by_hand(source, TEXTS, "mean")), atol=1e-5)
