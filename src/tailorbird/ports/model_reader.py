"""Turns what a package or folder holds into the one form tailorbird runs: safetensors, config, tokenizer, chat template."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class ModelReader(Protocol):
    """Converts base models."""

    def convert(self, source: Path, target: Path) -> None:
        """Reads a GGUF file or a Hugging Face folder at ``source`` and writes the model into the empty folder ``target``.

        Raises ModelInvalid (unreadable, no chat template, pickled weights, remote code).
        """
        ...
