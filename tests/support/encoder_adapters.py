"""Linear models with an adapter of a shared encoder, as files: random matrices that answer differently."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModel

from tailorbird.domain.deployment import Servable
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import PromptSpec
from tailorbird.domain.value import Digest
from tailorbird.text.linear_classifier import ADAPTER, LinearText, write_linear


def linear_shapes(encoder: Path, layers: int | None = None) -> dict[str, tuple[int, int]]:
    """Outputs and inputs of the linear layers of the last ``layers`` blocks (None: of all), by path."""
    with torch.device("meta"):
        model = AutoModel.from_config(AutoConfig.from_pretrained(encoder))
    lists = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    chosen = {id(module) for block in list(max(lists, key=len))[-(layers or 10**6) :] for module in block.modules()}
    found = [(path, module) for path, module in model.named_modules() if isinstance(module, torch.nn.Linear) and id(module) in chosen]
    return {path: (module.out_features, module.in_features) for path, module in found}


def write_adapted_floor(
    folder: Path, shapes: dict[str, tuple[int, int]], labels: Sequence[str], seed: int, rank: int = 4, width: int = 32
) -> Path:
    """A head of ``labels`` and an adapter of ``rank`` for layers of ``shapes``, all random."""
    draw = torch.Generator().manual_seed(seed)
    (folder / ADAPTER).mkdir(parents=True)
    tensors = {}
    for path, (outputs, inputs) in shapes.items():
        tensors[f"base_model.model.{path}.lora_A.weight"] = torch.randn(rank, inputs, generator=draw) / inputs**0.5
        tensors[f"base_model.model.{path}.lora_B.weight"] = torch.randn(outputs, rank, generator=draw) / rank**0.5
    save_file(tensors, folder / ADAPTER / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "bias": "none", "target_modules": sorted(shapes)}
    (folder / ADAPTER / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    weights_KW = torch.randn(len(labels), width, generator=draw).double().numpy() * 4
    write_linear(LinearText(tuple(labels), {}, {}, np.zeros(0), weights_KW, np.zeros(len(labels)), width=width), folder)
    return folder


def adapted_servable(release: Digest, tenant: str, floor: Path, encoder: Path, labels: Sequence[str]) -> Servable:
    """What an engine loads of it."""
    prompt = PromptSpec(instruction="Classify.", labels=tuple(labels))
    named = {"id": release, "tenant": tenant, "task": TaskKind.CLASSIFY, "base": "", "adapter": None, "weights": None, "prompt": prompt}
    return Servable(**named, floor=str(floor), encoder=str(encoder))
