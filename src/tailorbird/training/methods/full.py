"""Full fine-tuning: every weight trained in fp32 and saved as a Hugging Face folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel

from tailorbird.training.methods.registry import Learner, register
from tailorbird.training.network import read_model

#: What travels with the weights, where the base model has it.
_COMPANIONS = ("generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")


class Full:
    """All weights, held and updated in fp32; under ``bf16`` they are multiplied in bf16."""

    name = "full"

    #: An update far smaller than its weight would be lost in bf16.
    master_weights = True
    divisible = True

    def read(self, folder: Path, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
        """The model as it is. Raises ModelInvalid."""
        return read_model(folder, dtype, device)

    def check(self, learner: Learner) -> None:
        """Any decoder and any settings will do."""

    def prepare(self, learner: Learner) -> dict[str, nn.Parameter]:
        """Every parameter of the decoder and its head, tied ones once; what else a multimodal model has stays as it is."""
        model: Any = learner.model
        model.requires_grad_(False)
        for part in (model.get_decoder(), model.get_input_embeddings(), model.get_output_embeddings()):
            part.requires_grad_(True)
        return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}

    def rates(self, learner: Learner) -> dict[str, float]:
        """All weights learn alike."""
        del learner
        return {}

    def save(self, learner: Learner, folder: Path) -> None:
        """Weights, config, tokenizer and chat template."""
        tensors = _untied(learner.model)
        if set(tensors) <= set(_names(learner.base)):
            save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        else:
            # The files of some architectures name or divide tensors otherwise than the model does.
            learner.model.save_pretrained(folder, max_shard_size="1000GB")
        config = json.loads((learner.base / "config.json").read_text(encoding="utf-8"))
        config["dtype"] = "float32"
        (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        for name in _COMPANIONS:
            if (learner.base / name).is_file():
                shutil.copyfile(learner.base / name, folder / name)


def _names(folder: Path) -> Iterator[str]:
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            yield from file.keys()


def _untied(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """The state of ``model``, each piece of memory under its first name: the format refuses shared tensors, and loading ties them again."""
    seen: set[int] = set()
    tensors = {}
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            tensors[name] = tensor.detach().cpu().contiguous()
    return tensors


register(Full())
