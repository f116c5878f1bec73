"""Pulling makes each model once, whole or not at all, and refuses what could run code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.model_folders import CopyingReader, hugging_face_folder
from tailorbird.base_models import pull
from tailorbird.domain.errors import ModelInvalid


def test_a_gguf_file_is_converted(tmp_path: Path) -> None:
    (tmp_path / "tiny.Q4.gguf").write_bytes(b"GGUF")
    folder = pull(str(tmp_path / "tiny.Q4.gguf"), tmp_path / "cache", CopyingReader)
    assert (folder / "model.safetensors").read_bytes() == b"tiny.Q4.gguf"


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"weights": "pytorch_model.bin"}, "model_unsafe"),
        ({"weights": "weights.pt"}, "model_unsafe"),
        ({"weights": "readme.md"}, "model_unreadable"),
        ({"config": json.dumps({"auto_map": {"AutoModel": "evil.Model"}})}, "model_unsafe"),
        ({"config": "{"}, "model_config"),
    ],
)
def test_what_could_run_code_or_is_no_model_is_refused(files: dict[str, str], code: str, tmp_path: Path) -> None:
    source = hugging_face_folder(tmp_path / "model", **files)
    with pytest.raises(ModelInvalid) as caught:
        pull(str(source), tmp_path / "cache", CopyingReader)
    assert caught.value.error_code == code
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("name", "hint"), [("smollm-135m", "did you mean 'smollm2-135m'?"), ("./no/such/folder", "path of a model folder")]
)
def test_an_unknown_name_gets_the_nearest(name: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(ModelInvalid) as caught:
        pull(name, tmp_path, CopyingReader)
    assert caught.value.error_code == "model_unknown"
    assert hint in caught.value.hint
