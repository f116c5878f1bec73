"""Models at random weights, built while no other thread reads one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import LlamaConfig, LlamaForCausalLM

from tailorbird.system.process import model_load


def save_llama(folder: Path, config: LlamaConfig, **options: Any) -> None:
    """Writes a random model of ``config``; ``options`` are those of ``save_pretrained``."""
    with model_load:
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder, **options)
