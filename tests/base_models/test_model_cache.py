"""Cache of converted models: made once, whole or not at all, shared between workspaces."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.model_folders import CopyingReader, hugging_face_folder
from tailorbird.base_models import ModelCache, pull, register_base
from tailorbird.base_models.model_cache import ready
from tailorbird.domain.base_model import EncoderDescription
from tailorbird.domain.errors import Corrupt, ModelInvalid
from tailorbird.ledger import open_artifacts


def test_a_folder_is_converted_once(tmp_path: Path) -> None:
    source, reader = hugging_face_folder(tmp_path / "My Model"), CopyingReader()
    first = pull(str(source), tmp_path / "cache", lambda: reader)
    second = pull(str(source), tmp_path / "cache", lambda: reader)
    assert first == second
    assert first.name.startswith("my-model-")
    assert reader.calls == 1
    assert sorted(path.name for path in first.iterdir()) == ["config.json", "model.safetensors"]


def test_a_damaged_folder_is_made_anew(tmp_path: Path) -> None:
    source, reader = hugging_face_folder(tmp_path / "model"), CopyingReader()
    folder = pull(str(source), tmp_path / "cache", lambda: reader)
    (folder / "model.safetensors").write_bytes(b"")
    assert pull(str(source), tmp_path / "cache", lambda: reader) == folder
    assert reader.calls == 2
    assert (folder / "model.safetensors").read_bytes() == b"model"


def test_a_failed_conversion_leaves_nothing(tmp_path: Path) -> None:
    class Failing:
        def convert(self, source: Path, target: Path, stated: EncoderDescription | None = None) -> None:
            (target / "half").touch()
            raise ModelInvalid("no", "no")

    source = hugging_face_folder(tmp_path / "model")
    with pytest.raises(ModelInvalid):
        pull(str(source), tmp_path / "cache", Failing)
    assert [path for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []
    assert ready(pull(str(source), tmp_path / "cache", CopyingReader))


def test_a_changed_byte_in_the_shared_cache_is_found_when_it_is_used(tmp_path: Path) -> None:
    source = hugging_face_folder(tmp_path / "model")
    folder = pull(str(source), ModelCache(tmp_path / "one", tmp_path / "cache"), CopyingReader)
    (folder / "model.safetensors").write_bytes(b"MODEL")
    assert ready(folder)
    with pytest.raises(Corrupt, match="was changed since it was converted"):
        register_base(folder, "model", open_artifacts(str(tmp_path / "artifacts"), tmp_path / "copies"))
