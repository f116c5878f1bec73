"""Encoders as files: what sentence-transformers writes beside one, and what tailorbird writes when it was converted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import AutoModel

from tailorbird.base_models.encoder_vectors import ENCODER_FILE, encoder_json
from tailorbird.domain.base_model import EncoderDescription
from tailorbird.inference.encoder_converter import describe_encoder
from tailorbird.system.process import model_load

_NAMES = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}


def describe_in_place(folder: Path, max_tokens: int = 256) -> Path:
    """Writes how the encoder in ``folder`` makes its vectors beside its weights, as a conversion would."""
    (folder / "encoder.json").unlink(missing_ok=True)
    with model_load:
        model: Any = AutoModel.from_pretrained(folder)
    stated = EncoderDescription(max_tokens=max_tokens, width=model.config.hidden_size)
    (folder / ENCODER_FILE).write_text(encoder_json(describe_encoder(folder, model, None, stated)), encoding="utf-8")
    return folder


def write_pooling(folder: Path, rule: str, *, normalised: bool = True) -> Path:
    """The files by which sentence-transformers makes vectors by ``rule`` of what the encoder in ``folder`` gives."""
    hidden = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("hidden_size", 32)
    (folder / "1_Pooling").mkdir()
    pooling = {_NAMES.get(rule, f"pooling_mode_{rule}"): True, "word_embedding_dimension": hidden}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling")]
    if normalised:
        kinds.append((f"{len(kinds)}_Normalize", "Normalize"))
    modules = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for place, (path, kind) in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


def write_prompts(folder: Path, prompts: dict[str, str], **settings: object) -> Path:
    """What sentence-transformers reads in front of texts."""
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": prompts, **settings}))
    return folder
