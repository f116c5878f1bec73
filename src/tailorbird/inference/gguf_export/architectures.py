"""Architectures that llama.cpp computes as transformers does: names, layouts and parameters in a GGUF file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import gguf
import numpy as np
import torch
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from tailorbird.domain.errors import InvalidInput

_ATTENTION = frozenset({"attn_q", "attn_k", "attn_v"})


class Architecture(NamedTuple):
    """How llama.cpp calls an architecture. ``interleaved``: the two numbers that a rotation turns stand side by side there, and half a head
    apart in transformers. ``biases`` are the layers that may have one."""

    arch: gguf.MODEL_ARCH
    interleaved: bool
    biases: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """Its name in the file."""
        return gguf.MODEL_ARCH_NAMES[self.arch]


_LLAMA = Architecture(gguf.MODEL_ARCH.LLAMA, True, _ATTENTION | {"attn_output", "ffn_gate", "ffn_up", "ffn_down"})
#: By the model type of transformers. One that is added here joins the tests on tiny models, and on a real llama.cpp, by itself.
ARCHITECTURES: dict[str, Architecture] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": Architecture(gguf.MODEL_ARCH.QWEN2, False, _ATTENTION),
    "qwen3": Architecture(gguf.MODEL_ARCH.QWEN3, False),
}


def architecture_of(config: Any) -> Architecture:
    """The architecture of a config. Raises InvalidInput where llama.cpp would compute something else."""
    known = ARCHITECTURES.get(config.model_type)
    if known is None:
        raise unsupported(f"models of type {config.model_type} are not written as GGUF ({', '.join(ARCHITECTURES)} are)")
    if getattr(config, "hidden_act", "silu") != "silu":
        raise unsupported(f"llama.cpp computes this architecture with SiLU, and the model uses {config.hidden_act}")
    if (config.rope_parameters or {}).get("partial_rotary_factor", 1.0) != 1.0:
        raise unsupported("only a part of each head is rotated")
    return known


def unsupported(why: str) -> InvalidInput:
    """What llama.cpp would not compute as it was measured."""
    return InvalidInput(
        f"this cannot be exported as GGUF: {why}",
        "export it with --format safetensors, and serve it with tailorbird or vllm",
        code="gguf_unsupported",
    )


def context_of(config: Any) -> int:
    """Tokens up to which llama.cpp computes the same: the model's context, or its window, which llama.cpp does not slide."""
    context: int = config.max_position_embeddings
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    slides = window is not None and (kinds is None or "sliding_attention" in kinds)
    return min(context, window) if slides and window is not None else context


def head_width(config: Any) -> int:
    """Numbers in one head."""
    width: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return width


def write_parameters(writer: gguf.GGUFWriter, config: Any) -> np.ndarray[Any, Any] | None:
    """Writes sizes and positions; the factors (half a head) by which rotations are slowed, where they are a tensor. Raises InvalidInput."""
    width = head_width(config)
    writer.add_context_length(context_of(config))
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(width)
    writer.add_vocab_size(config.vocab_size)
    rope = config.rope_parameters
    writer.add_rope_freq_base(rope["rope_theta"])
    scale = _SCALES.get(rope.get("rope_type", "default"))
    if scale is None:
        raise unsupported(f"llama.cpp does not scale positions as {rope['rope_type']} does")
    return scale(writer, config)


def _plain(writer: gguf.GGUFWriter, config: Any) -> None:
    del writer, config


def _linear(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(config.rope_parameters["factor"])


def _llama3(writer: gguf.GGUFWriter, config: Any) -> np.ndarray[Any, Any]:
    """llama.cpp divides each frequency by a factor of its own, which a tensor holds."""
    del writer
    slowed, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    width = head_width(config)
    plain = 1.0 / config.rope_parameters["rope_theta"] ** (torch.arange(0, width, 2, dtype=torch.float32) / width)
    factors: np.ndarray[Any, Any] = (plain / slowed).float().numpy()
    return factors


_SCALES: dict[str, Callable[[gguf.GGUFWriter, Any], np.ndarray[Any, Any] | None]] = {
    "default": _plain,
    "linear": _linear,
    "llama3": _llama3,
}
