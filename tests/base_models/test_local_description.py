"""A base model is described where it is: pulled, a folder, a config file alone; nothing is downloaded."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import pytest

from support.doubles import MemoryModelReader
from support.doubles.model_reader import toy_encoder
from tailorbird.base_models import describe_local
from tailorbird.base_models.catalogue import entry_named
from tailorbird.base_models.model_cache import ModelCache, make_once
from tailorbird.base_models.pull import _folder_of, find_local
from tailorbird.domain.errors import ModelInvalid
from tailorbird.text.encoder_vectors import ENCODER_FILE, encoder_json

CONFIG = {"model_type": "odd", "hidden_size": 8, "num_hidden_layers": 2, "vocab_size": 10, "max_position_embeddings": 64}


def written(folder: Path, config: object = CONFIG, weights: str = "") -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    if weights:
        header = json.dumps({weights: {"dtype": "F32", "shape": [10, 8], "data_offsets": [0, 320]}}).encode()
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(320))
    return folder


def refused(name: str, cache: Path) -> ModelInvalid:
    with pytest.raises(ModelInvalid) as caught:
        describe_local(name, cache, MemoryModelReader)
    assert caught.value.hint
    return caught.value


def test_a_config_is_enough(tmp_path: Path) -> None:
    folder = written(tmp_path / "odd")
    for name in (folder, folder / "config.json"):
        found = describe_local(str(name), tmp_path / "cache", MemoryModelReader)
        assert (found.name, found.parameters, found.layers) == (str(name), 2 * 64 + 80, 2)
    (tmp_path / "renamed.json").write_text(json.dumps(CONFIG))
    assert describe_local(str(tmp_path / "renamed.json"), tmp_path / "cache", MemoryModelReader).hidden == 8


def test_a_pulled_model_is_found_by_its_name(tmp_path: Path) -> None:
    source, cache = written(tmp_path / "mine", weights="w"), ModelCache.of(tmp_path / "cache")
    entry = entry_named("smollm2-135m")
    assert entry is not None
    assert refused(entry.name, tmp_path / "cache").error_code == "model_not_pulled"

    def fill(empty: Path) -> None:
        shutil.copytree(source, empty, dirs_exist_ok=True)

    made = make_once(_folder_of(entry, cache), fill, lambda _: None)
    assert find_local(entry.name, cache) == made
    assert describe_local(entry.name, tmp_path / "cache", MemoryModelReader).parameters == 80


def test_nothing_is_downloaded(tmp_path: Path) -> None:
    for name in ("smollm2-135m", "hf://owner/name"):
        error = refused(name, tmp_path / "cache")
        assert error.error_code == "model_not_pulled"
        assert f"tailorbird models pull {name}" in error.hint
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_what_is_no_decoder_here(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"GGUF")
    (tmp_path / "empty").mkdir()
    (tmp_path / "large.json").write_bytes(b" " * (5 << 20))
    cases = {"smolm2-135m": "model_unknown", str(tmp_path / "nothing"): "model_unknown"}
    cases |= {str(tmp_path / name): "model_config" for name in ("model.bin", "empty", "large.json")}
    cases[str(encoder := written(tmp_path / "encoder", weights="w"))] = "model_not_a_decoder"
    (encoder / ENCODER_FILE).write_text(encoder_json(toy_encoder()))
    cases[str(written(tmp_path / "code", CONFIG | {"auto_map": {"AutoModel": "mine.Model"}}, "w"))] = "model_remote_code"
    assert {name: refused(name, tmp_path / "cache").error_code for name in cases} == cases
