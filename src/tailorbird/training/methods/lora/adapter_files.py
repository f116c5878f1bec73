"""An adapter as PEFT writes it: ``adapter_model.safetensors`` and ``adapter_config.json``."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save_file

from tailorbird.domain.plan import LoraSettings
from tailorbird.training.methods.lora.dora import DoraLinear
from tailorbird.training.methods.lora.linear import LoraLinear


def write_adapter(layers: dict[str, LoraLinear], settings: LoraSettings, folder: Path) -> None:
    """Writes ``layers`` (by their path in the model) into ``folder``."""
    tensors = {}
    for path, layer in layers.items():
        tensors[f"base_model.model.{path}.lora_A.weight"] = layer.A.detach().cpu().contiguous()
        tensors[f"base_model.model.{path}.lora_B.weight"] = layer.B.detach().cpu().contiguous()
        if isinstance(layer, DoraLinear):
            tensors[f"base_model.model.{path}.lora_magnitude_vector"] = layer.magnitude.detach().cpu().contiguous()
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps(_config(settings), indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _config(settings: LoraSettings) -> dict[str, object]:
    """What PEFT cannot do without. No path of the base model: the release names it by digest."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": settings.rank,
        "lora_alpha": settings.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": settings.rslora,
        "use_dora": settings.dora,
        "modules_to_save": None,
        "target_modules": sorted(settings.targets),
    }
