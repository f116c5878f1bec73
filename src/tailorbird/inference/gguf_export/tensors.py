"""Tensors of a GGUF file: their names, the order of their rows, and the types they are written in."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import gguf
import numpy as np
import torch

from tailorbird.domain.errors import InvalidInput
from tailorbird.inference.gguf_export.architectures import Architecture, unsupported
from tailorbird.ports.model_reader import GgufPrecision

GgmlType = gguf.GGMLQuantizationType
_HELD = {torch.float32: GgmlType.F32, torch.bfloat16: GgmlType.BF16, torch.float16: GgmlType.F16}
_CHOSEN = {"f32": GgmlType.F32, "bf16": GgmlType.BF16, "f16": GgmlType.F16, "q8_0": GgmlType.Q8_0}
#: The type by which a reader of the file's metadata knows most of its weights.
FILE_TYPES = {
    GgmlType.F32: gguf.LlamaFileType.ALL_F32,
    GgmlType.F16: gguf.LlamaFileType.MOSTLY_F16,
    GgmlType.BF16: gguf.LlamaFileType.MOSTLY_BF16,
    GgmlType.Q8_0: gguf.LlamaFileType.MOSTLY_Q8_0,
}
#: Tensors of a checkpoint that are computed anew by whoever reads it.
_COMPUTED = "rotary_emb.inv_freq"


class LayerNames(NamedTuple):
    """Names of an architecture's tensors, by those of a checkpoint."""

    architecture: Architecture
    layers: int

    def of(self, name: str) -> str | None:
        """Name in the file of the tensor ``model.layers.0.self_attn.q_proj.weight`` (``blk.0.attn_q.weight``); None for what is left out.

        Raises InvalidInput where llama.cpp knows no such tensor.
        """
        if name.endswith(_COMPUTED):
            return None
        stem, _, part = name.rpartition(".")
        found = _mapped(self.architecture.arch, self.layers).get_name(stem)
        if found is None or part not in ("weight", "bias"):
            raise unsupported(f"llama.cpp's {self.architecture.name} has no tensor for {name}")
        if part == "bias" and found.rpartition(".")[2] not in self.architecture.biases:
            raise unsupported(f"llama.cpp's {self.architecture.name} adds no bias where {name} does")
        return f"{found}.{part}"


@cache
def _mapped(arch: gguf.MODEL_ARCH, layers: int) -> gguf.TensorNameMap:
    return gguf.get_tensor_name_map(arch, layers)


def reordered(rows: torch.Tensor, name: str, architecture: Architecture, config: Any) -> torch.Tensor:
    """``rows`` (outputs, …) of the tensor ``name`` in the order of llama.cpp: in queries and keys of an interleaved architecture, number i
    of a head and number i + half of it become neighbours."""
    layer = name.split(".")[2] if name.startswith("blk.") else ""
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(layer)
    if heads is None or not architecture.interleaved:
        return rows
    return rows.reshape(heads, 2, -1, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)


def type_of(shape: tuple[int, ...], dtype: torch.dtype, precision: GgufPrecision) -> GgmlType:
    """The type in which a tensor is written. What is no matrix stays whole; a row that blocks of 32 do not divide is written in f16.

    Raises InvalidInput (``gguf_unsupported``) for a checkpoint in another type.
    """
    if dtype not in _HELD:
        raise unsupported(f"weights are held in {str(dtype).removeprefix('torch.')}")
    if len(shape) < 2:
        return GgmlType.F32
    chosen = _HELD[dtype] if precision == "held" else _CHOSEN[precision]
    block, _ = gguf.GGML_QUANT_SIZES[chosen]
    return chosen if shape[-1] % block == 0 else GgmlType.F16


def size_of(shape: tuple[int, ...], kind: GgmlType) -> int:
    """Bytes of a tensor."""
    block, size = gguf.GGML_QUANT_SIZES[kind]
    return int(np.prod(shape)) // block * size


def encoded(tensor: torch.Tensor, kind: GgmlType, name: str) -> np.ndarray[Any, Any]:
    """The bytes of a tensor in the type ``kind``. Raises InvalidInput (``gguf_precision``) where a number is out of its range."""
    if kind is GgmlType.BF16:
        # As torch rounds (to the nearest, ties to even), which is also the processor's own way.
        return tensor.contiguous().to(torch.bfloat16).view(torch.int16).numpy()
    numbers = tensor.contiguous().float().numpy()
    if kind is GgmlType.F16 and float(np.abs(numbers).max(initial=0.0)) > float(np.finfo(np.float16).max):
        raise InvalidInput(
            f"weights of {name} are larger than f16 can hold", "export with --precision bf16, or held", code="gguf_precision"
        )
    coded: np.ndarray[Any, Any] = gguf.quantize(numbers, kind)
    return coded
