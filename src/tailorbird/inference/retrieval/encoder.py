"""Encoders of the BERT kind: a text to a vector, a pair of texts to a score."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

from tailorbird.domain.errors import ModelInvalid
from tailorbird.inference.silence_transformers import quiet
from tailorbird.ports.encoder import Vectors

#: Tokens of a text that are read: what the encoder of the catalogue was trained on.
MOST_TOKENS = 256
_BATCH = 32
_HEAD, _ADAPTER = "head.safetensors", "adapter_config.json"


class TorchEncoder:
    """An ``Encoder`` on torch. Models are read once and kept."""

    def __init__(self) -> None:
        self._read: dict[tuple[str, str | None], _Model] = {}
        self._nbytes = 0

    @property
    def nbytes(self) -> int:
        """As ``Encoder.nbytes``."""
        return self._nbytes

    def embed(self, folder: Path, texts: Sequence[str], tuned: Path | None = None) -> Vectors:
        """As ``Encoder.embed``."""
        model = self._model(folder, tuned)
        found = np.empty((len(texts), model.width), dtype=np.float32)
        for batch in _batches([len(text) for text in texts]):
            found[batch] = torch.nn.functional.normalize(model.mean([(texts[i],) for i in batch]), dim=-1).numpy()
        return found

    def count_tokens(self, folder: Path, texts: Sequence[str]) -> int:
        """As ``Encoder.count_tokens``."""
        return self._model(folder, None).count_tokens(texts)

    def relate(self, folder: Path, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """As ``Encoder.relate``."""
        model, head = self._model(folder, None), _head(folder)
        found = [0.0] * len(pairs)
        for batch in _batches([len(question) + len(text) for question, text in pairs]):
            scores = model.mean([pairs[i] for i in batch]) @ head["weight"][0] + head["bias"]
            for place, score in zip(batch, scores.tolist(), strict=True):
                found[place] = score
        return found

    def forget(self, folder: Path) -> None:
        """As ``Encoder.forget``."""
        for key in [key for key in list(self._read) if key[0] == str(folder)]:
            self._nbytes -= self._read.pop(key).nbytes

    def _model(self, folder: Path, tuned: Path | None) -> _Model:
        key = (str(folder), str(tuned) if tuned else None)
        if key not in self._read:
            self._read[key] = _Model(folder, tuned)
            self._nbytes += self._read[key].nbytes
        return self._read[key]


class _Model:
    """An encoder with its tokenizer. ``tuned`` holds an adapter, which is merged, or weights, which take the place of the encoder's."""

    def __init__(self, folder: Path, tuned: Path | None) -> None:
        whole = tuned if tuned is not None and not (tuned / _ADAPTER).is_file() else folder
        try:
            with quiet():
                self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
                loaded: Any = AutoModel.from_pretrained(
                    whole, use_safetensors=True, local_files_only=True, trust_remote_code=False, dtype=torch.float32
                )
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise ModelInvalid(
                f"the encoder in {whole.name} cannot be read ({type(error).__name__})",
                "pull it again: tailorbird models pull",
                code="encoder",
            ) from error
        self._model = loaded.eval()
        if tuned is not None and whole is folder:
            merge_adapter(self._model, tuned)
        self.width: int = self._model.config.hidden_size
        self.nbytes = sum(parameter.nbytes for parameter in self._model.parameters())

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Tokens that are read of all texts."""
        return sum(map(len, self._tokenizer(list(texts), truncation=True, max_length=MOST_TOKENS)["input_ids"])) if texts else 0

    @torch.inference_mode()
    def mean(self, texts: Sequence[tuple[str, ...]]) -> torch.Tensor:
        """The mean over the tokens of each text, or pair of texts: (B, H) in fp32."""
        parts = list(zip(*texts, strict=True))
        encoded = self._tokenizer(*map(list, parts), padding=True, truncation="longest_first", max_length=MOST_TOKENS, return_tensors="pt")
        hidden_BTH = self._model(**encoded).last_hidden_state
        mask_BT1 = encoded["attention_mask"][..., None]
        mean_BH: torch.Tensor = (hidden_BTH * mask_BT1).sum(1) / mask_BT1.sum(1)
        return mean_BH


@torch.no_grad()
def merge_adapter(model: Any, folder: Path) -> None:
    """Adds the adapter in ``folder`` (PEFT format) to the weights of ``model``. Raises ModelInvalid where it does not fit."""
    config = json.loads((folder / _ADAPTER).read_text(encoding="utf-8"))
    tensors = load_file(folder / "adapter_model.safetensors")
    for name, a_RI in tensors.items():
        if ".lora_A." not in name:
            continue
        path = name.removeprefix("base_model.model.").partition(".lora_A.")[0]
        b_OR = tensors[name.replace(".lora_A.", ".lora_B.")]
        try:
            model.get_submodule(path).weight += config["lora_alpha"] / config["r"] * (b_OR @ a_RI)
        except (AttributeError, RuntimeError) as error:
            raise ModelInvalid(f"the adapter does not fit the encoder at {path}", "adapt again", code="adapter_mismatch") from error


def _head(folder: Path) -> dict[str, torch.Tensor]:
    path = folder / _HEAD
    if not path.is_file():
        raise ModelInvalid(
            f"the encoder in {folder.name} has no head that scores pairs", "adapt again with cross-encoder", code="encoder_head"
        )
    return load_file(path)


def _batches(lengths: Sequence[int]) -> list[list[int]]:
    """Places of like lengths together."""
    order = sorted(range(len(lengths)), key=lambda place: lengths[place])
    return [order[start : start + _BATCH] for start in range(0, len(order), _BATCH)]
