"""The forward pass of a Llama-like decoder, with an adapter beside its weights.

In: tokens, their positions, a mask of what each may see, a memory of earlier ones. Out: hidden states, logits. transformers reads the
folder and knows the rotary embedding; the pass itself is ours, because rows of one batch share a prefix, sit in trees and use adapters.
Must not know: prompts, labels. Axes: B rows, T tokens, K tokens seen (memory and T), E hidden, H key heads, G query heads per key head, D
head size, V vocabulary.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.activations import ACT2FN

from tailorbird.domain.errors import ModelInvalid
from tailorbird.inference.adapter import GROUPS, Adapter, Delta, LinearShapes
from tailorbird.inference.memory import Memory, Shape
from tailorbird.inference.precision import Placement
from tailorbird.inference.quiet import quiet

#: Architectures whose forward pass is the one below.
_FAMILY = frozenset({"llama", "mistral", "qwen2"})


class Linear(NamedTuple):
    """Weight and bias of linear layers that read the same input, their outputs side by side."""

    weight_OI: torch.Tensor
    bias_O: torch.Tensor | None

    def __call__(self, x: torch.Tensor, delta: Delta | None) -> torch.Tensor:
        """The layers' outputs for ``x``, changed by ``delta``."""
        y = F.linear(x, self.weight_OI, self.bias_O)
        return y if delta is None else y + F.linear(F.linear(x, delta.down_RI), delta.up_OR)


class Block(NamedTuple):
    """The weights of one decoder block. The two norms come before attention and before the MLP."""

    norms: tuple[torch.Tensor, torch.Tensor]
    groups: dict[str, Linear]


class Decoder:
    """A causal language model of the Llama family. Holds weights only: every call is given what it needs."""

    def __init__(self, model: Any) -> None:
        config = model.config
        weights = model.get_input_embeddings().weight
        self.context: int = config.max_position_embeddings
        self._query_heads: int = config.num_attention_heads
        self._epsilon: float = config.rms_norm_eps
        self._activation = ACT2FN[config.hidden_act]
        self._rotary = model.model.rotary_emb
        self._embedding_VE = weights.detach()
        self._head = Linear(model.lm_head.weight.detach(), None)
        self._norm_E = model.model.norm.weight.detach().float()
        self.linears = _linear_shapes(model.model.layers[0])
        self._blocks = [_block(layer) for layer in model.model.layers]
        head_size = model.model.layers[0].self_attn.head_dim
        self.shape = Shape(len(self._blocks), config.num_key_value_heads, head_size, weights.dtype, weights.device)

    def hidden(
        self, tokens_BT: torch.Tensor, positions_BT: torch.Tensor, seen_BTK: torch.Tensor, memory: Memory, adapter: Adapter | None
    ) -> torch.Tensor:
        """Hidden states (BTE) after the last norm. ``seen_BTK`` is true where a token may look; each must see at least one."""
        # The running sum over layers is kept in fp32: in bf16 its rounding alone doubles the error of a score.
        x_BTE = F.embedding(tokens_BT, self._embedding_VE).float()
        cos_BTD, sin_BTD = self._rotary(x_BTE, positions_BT)
        turn = (cos_BTD.unsqueeze(2), sin_BTD.unsqueeze(2))
        bias = self._bias(seen_BTK)
        for layer, block in enumerate(self._blocks):
            deltas = {group: adapter.delta(layer, group) if adapter else None for group in GROUPS}
            attended_BTE = self._attend(layer, self._normed(x_BTE, block.norms[0]), turn, bias, (block, deltas, memory))
            x_BTE = x_BTE + block.groups["out"](attended_BTE, deltas["out"])
            gate, up = block.groups["gate_up"](self._normed(x_BTE, block.norms[1]), deltas["gate_up"]).chunk(2, dim=-1)
            x_BTE = x_BTE + block.groups["down"](self._activation(gate) * up, deltas["down"])
        memory.advance(tokens_BT.shape[1])
        return self._normed(x_BTE, self._norm_E)

    def logits(self, hidden_NE: torch.Tensor) -> torch.Tensor:
        """Logits (NV, fp32) of the tokens that could follow."""
        return self._head(hidden_NE, None).float()

    def _attend(
        self,
        layer: int,
        x_BTE: torch.Tensor,
        turn: tuple[torch.Tensor, torch.Tensor],
        bias: torch.Tensor,
        using: tuple[Block, dict[str, Delta | None], Memory],
    ) -> torch.Tensor:
        """Grouped-query attention. Query heads that share a key head are folded into one run of queries, so that keys are never copied."""
        block, deltas, memory = using
        rows, length, _ = x_BTE.shape
        heads, size = self.shape.heads, self.shape.head_size
        mixed_BTHD = block.groups["qkv"](x_BTE, deltas["qkv"]).view(rows, length, -1, size)
        queries, keys, values = torch.split(mixed_BTHD, [self._query_heads, heads, heads], dim=2)
        keys_BHKD, values_BHKD = memory.extend(layer, _turned(keys, turn).transpose(1, 2), values.transpose(1, 2))
        folded = _turned(queries, turn).view(rows, length, heads, -1, size).permute(0, 2, 3, 1, 4).reshape(rows, heads, -1, size)
        out = F.scaled_dot_product_attention(folded, keys_BHKD, values_BHKD, attn_mask=bias)
        return out.view(rows, heads, -1, length, size).permute(0, 3, 1, 2, 4).reshape(rows, length, -1)

    def _bias(self, seen_BTK: torch.Tensor) -> torch.Tensor:
        """The mask as numbers to add to attention scores, once per folded query head (B, 1, G x T, K)."""
        groups = self._query_heads // self.shape.heads
        bias_BTK = torch.zeros(seen_BTK.shape, dtype=self.shape.dtype, device=self.shape.device).masked_fill_(~seen_BTK, float("-inf"))
        return bias_BTK.unsqueeze(1).expand(-1, groups, -1, -1).reshape(len(seen_BTK), 1, -1, seen_BTK.shape[2])

    def _normed(self, x: torch.Tensor, weight_E: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(x, weight_E.shape, weight_E, self._epsilon).to(self.shape.dtype)


def _turned(x_BTHD: torch.Tensor, turn: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Rotary position embedding in transformers' layout: the two halves of a head are the two parts of a plane."""
    cos_BT1D, sin_BT1D = turn
    left, right = x_BTHD.chunk(2, dim=-1)
    return (x_BTHD * cos_BT1D + torch.cat((-right, left), dim=-1) * sin_BT1D).to(x_BTHD.dtype)


def _linear_shapes(layer: Any) -> LinearShapes:
    shapes = {}
    for names in GROUPS.values():
        for name in names:
            outputs, inputs = layer.get_submodule(name).weight.shape
            shapes[name] = (inputs, outputs)
    return shapes


def _block(layer: Any) -> Block:
    norms = (layer.input_layernorm.weight.detach().float(), layer.post_attention_layernorm.weight.detach().float())
    return Block(norms, {group: _joined([layer.get_submodule(name) for name in names]) for group, names in GROUPS.items()})


def _joined(linears: list[Any]) -> Linear:
    weight_OI = torch.cat([linear.weight.detach() for linear in linears]) if len(linears) > 1 else linears[0].weight.detach()
    biases = [linear.bias for linear in linears]
    if all(bias is None for bias in biases):
        return Linear(weight_OI, None)
    return Linear(weight_OI, torch.cat([bias.detach() for bias in biases]))


def read_decoder(folder: Path, placement: Placement) -> Decoder:
    """The model in ``folder``. Raises ModelInvalid when it cannot be read, is incomplete or of another family."""
    try:
        with quiet():
            model, missing = _read_model(folder, placement)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise ModelInvalid(
            f"the model in {folder.name} cannot be read ({type(error).__name__})", "pull or train it again", code="model_unreadable"
        ) from error
    if missing:
        raise ModelInvalid(f"the model in {folder.name} lacks {missing} of its weights", "pull or train it again", code="model_unreadable")
    return Decoder(model)


def _read_model(folder: Path, placement: Placement) -> tuple[Any, int]:
    """The model as transformers reads it, and how many of its weights the folder lacks."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    _check_family(folder, config)
    read: Any = AutoModelForCausalLM.from_pretrained
    model, info = read(
        folder,
        dtype=placement.dtype,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        output_loading_info=True,
    )
    return model.eval().to(placement.device), len(info["missing_keys"])


def _check_family(folder: Path, config: Any) -> None:
    sliding = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    if config.model_type not in _FAMILY or sliding is not None:
        raise ModelInvalid(
            f"the model in {folder.name} ({config.model_type}) is not of the Llama family",
            f"use one of: {', '.join(sorted(_FAMILY))}, without a sliding window",
            code="model_family",
        )
