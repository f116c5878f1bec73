"""An encoder and its tokenizer, ready to be trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, AutoTokenizer

from tailorbird.domain.errors import ModelInvalid
from tailorbird.domain.plan import LoraSettings
from tailorbird.training.methods.lora import LoraLinear

#: Tokens of a text that are read: as many as where it is served.
MOST_TOKENS = 256


class TrainableEncoder:
    """The encoder in ``folder``, without dropout; with ``lora`` its weights are frozen and adapters stand beside its linear layers."""

    def __init__(self, folder: Path, lora: LoraSettings | None) -> None:
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            model: Any = AutoModel.from_pretrained(folder, use_safetensors=True, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ModelInvalid(
                f"the encoder in {folder.name} cannot be read ({type(error).__name__})", "pull it again", code="model"
            ) from error
        self.model = model.float().eval()
        #: Nothing reads it here, so that nothing would train it.
        self.model.pooler = None
        self.width: int = self.model.config.hidden_size
        if lora is not None:
            self._adapt(lora)

    def _adapt(self, lora: LoraSettings) -> None:
        self.model.requires_grad_(False)
        linear = [(path, layer) for path, layer in self.model.named_modules() if isinstance(layer, nn.Linear)]
        for path, layer in linear:
            if any(path.endswith(f".{target}") for target in lora.targets):
                parent, _, name = path.rpartition(".")
                setattr(self.model.get_submodule(parent), name, LoraLinear(layer, lora.rank, lora.scaling))

    def parameters(self) -> dict[str, nn.Parameter]:
        """What learns, by name."""
        return {name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad}

    def mean(self, texts: Sequence[tuple[str, ...]]) -> torch.Tensor:
        """The mean over the tokens of each text, or pair of texts: (B, H)."""
        parts = [list(part) for part in zip(*texts, strict=True)]
        encoded = self.tokenizer(*parts, padding=True, truncation="longest_first", max_length=MOST_TOKENS, return_tensors="pt")
        hidden_BTH = self.model(**encoded).last_hidden_state
        mask_BT1 = encoded["attention_mask"][..., None]
        mean_BH: torch.Tensor = (hidden_BTH * mask_BT1).sum(1) / mask_BT1.sum(1)
        return mean_BH

    def adapters(self) -> dict[str, LoraLinear]:
        """Layers with an adapter, by path."""
        return {path: layer for path, layer in self.model.named_modules() if isinstance(layer, LoraLinear)}

    def merged(self) -> dict[str, torch.Tensor]:
        """The encoder's weights, adapters added to what they stand beside."""
        tensors = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        for path, layer in self.adapters().items():
            a_RI, b_OR = tensors.pop(f"{path}.A"), tensors.pop(f"{path}.B")
            tensors[f"{path}.weight"] = tensors.pop(f"{path}.linear.weight") + layer.scaling * (b_OR @ a_RI)
            tensors[f"{path}.bias"] = tensors.pop(f"{path}.linear.bias")
        return tensors
