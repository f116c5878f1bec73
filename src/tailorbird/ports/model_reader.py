"""Turns what a package or folder holds into the one form tailorbird runs: safetensors, config, tokenizer, chat template."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from tailorbird.domain.base_model import ModelShape


class ModelReader(Protocol):
    """Converts base models."""

    def convert(self, source: Path, target: Path) -> None:
        """Reads a GGUF file or a Hugging Face folder at ``source`` and writes the model into the empty folder ``target``.

        Raises ModelInvalid (unreadable, no chat template, pickled weights, remote code).
        """
        ...

    def describe(self, source: Path) -> ModelShape:
        """The shape of the decoder in the folder ``source``, from its config and the headers of its weights, or of the one that the config
        file ``source`` alone describes: nothing is loaded.

        Raises ModelInvalid: remote code (``model_remote_code``), a type that is unknown (``model_type_unknown``) or no decoder
        (``model_not_a_decoder``), quantised weights (``model_quantised``), a config that does not belong to the weights
        (``model_shapes``), one that cannot be built (``model_config``).
        """
        ...
