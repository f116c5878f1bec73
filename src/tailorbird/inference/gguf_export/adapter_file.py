"""Adapters as GGUF files, for llama.cpp's ``--lora``."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import gguf
import torch

from tailorbird.inference.forward.adapter_files import adapter_config, adapter_tensors, refused_adapter
from tailorbird.inference.gguf_export.architectures import Architecture, architecture_of, unsupported
from tailorbird.inference.gguf_export.model_file import write_facts
from tailorbird.inference.gguf_export.tensors import GgmlType, LayerNames, encoded, reordered
from tailorbird.inference.model_description import read_config
from tailorbird.ports.model_reader import GgufFile, GgufJob

#: Settings of PEFT that change what an adapter computes, and that a GGUF adapter has no word for.
_UNSAID = ("use_dora", "modules_to_save", "rank_pattern", "alpha_pattern", "fan_in_fan_out", "layer_replication", "lora_bias")
_KEY = re.compile(r"base_model\.model\.(?P<layer>.+)\.lora_(?P<part>[AB])\.weight")


def write_adapter(job: GgufJob) -> GgufFile:
    """As ``ModelReader.write_gguf``, of an adapter alone. Its numbers are written in f32."""
    assert job.adapter is not None
    config = read_config(job.source)
    architecture = architecture_of(config)
    settings = adapter_config(job.adapter, _UNSAID)
    tensors = _named(job.adapter, config, architecture)
    writer = gguf.GGUFWriter(job.target, architecture.name)
    try:
        writer.add_type("adapter")
        write_facts(writer, job.facts)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        # llama.cpp divides by the rank; rsLoRA by its root.
        rank, alpha = int(settings["r"]), float(settings["lora_alpha"])
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha * math.sqrt(rank) if settings.get("use_rslora") else alpha)
        for name, tensor in tensors.items():
            writer.add_tensor(name, encoded(tensor, GgmlType.F32, name))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()
    return GgufFile(
        name=job.target.name, architecture=architecture.name, precision="f32", tensors=len(tensors), size=job.target.stat().st_size
    )


def _named(folder: Path, config: Any, architecture: Architecture) -> dict[str, torch.Tensor]:
    """A (rank, inputs) and B (outputs, rank) of each layer, by name in the file; B's rows in the order of the weight's."""
    names = LayerNames(architecture, config.num_hidden_layers)
    found: dict[str, torch.Tensor] = {}
    for key, tensor in sorted(adapter_tensors(folder).items()):
        match = _KEY.fullmatch(key)
        if match is None:
            raise refused_adapter(folder, "it holds more than A and B of linear layers")
        name = names.of(f"{match['layer']}.weight")
        if name is None or name in ("token_embd.weight", "output.weight"):
            raise unsupported("the adapter changes the embedding or the output layer")
        part = match["part"]
        found[f"{name}.lora_{part.lower()}"] = tensor if part == "A" else reordered(tensor, name, architecture, config)
    return found
