"""Model folders and a reader that copies them, for the tests of base models."""

from __future__ import annotations

from pathlib import Path

from tailorbird.domain.base_model import EncoderDescription


class CopyingReader:
    """Writes a folder from the source's name, and counts."""

    def __init__(self) -> None:
        self.calls = 0

    def convert(self, source: Path, target: Path, stated: EncoderDescription | None = None) -> None:
        self.calls += 1
        (target / "model.safetensors").write_bytes(source.name.encode())
        (target / "config.json").write_text("{}")


def hugging_face_folder(folder: Path, **files: str) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(files.get("config", '{"model_type": "llama"}'))
    (folder / files.get("weights", "model.safetensors")).write_bytes(b"x")
    return folder
