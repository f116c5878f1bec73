"""FLOPs and memory of a training: memory predicted before the first pass, both measured from then on."""

from __future__ import annotations

import math
from typing import Any

import torch

from tailorbird.training.architecture import blocks, experts_met, text_config
from tailorbird.training.batches import Packed
from tailorbird.training.devices import GIB, DevicePeak, free_gib, is_gpu, used_gib


class Flops:
    """FLOPs of a forward and backward pass over packed rows.

    A frozen matrix costs 4 a token and element (forward, gradient of the input), a trained one 6; the head counts at loss tokens alone;
    attention costs 12 a (query, key) pair, layer and query width (Korthikanti et al. 2022; shared/causal pairs counted once). Norms and
    embeddings are left out.
    """

    def __init__(self, model: Any) -> None:
        head = model.get_output_embeddings()
        outside = {id(head.weight), id(model.get_input_embeddings().weight)}
        matrices = [p for p in model.get_decoder().parameters() if p.ndim in (2, 3) and id(p) not in outside]
        met = experts_met(model)
        self._per_token = sum(_numbers(p) * (6 if p.requires_grad else 4) * (met if p.ndim == 3 else 1) for p in matrices)
        self._per_loss_token = head.weight.numel() * (6 if head.weight.requires_grad else 4)
        config = text_config(model)
        heads = getattr(config, "num_attention_heads", None) or 0
        width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads) if heads else 0
        self._per_pair = 12 * width * len(blocks(model))

    def of(self, packed: Packed) -> float:
        """FLOPs of one forward and backward pass."""
        return float(packed.tokens * self._per_token + packed.loss_tokens * self._per_loss_token + packed.pairs * self._per_pair)


def _numbers(matrix: Any) -> int:
    """Numbers that a matrix stands for: one in 4 bits is stored as half as many bytes."""
    state = getattr(matrix, "quant_state", None)
    return math.prod(matrix.shape if state is None else state.shape)


class MemoryMeter:
    """Peak memory above what was in use before: the resident set, or the allocator's peak on CUDA. In GiB."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._highest = DevicePeak(device) if is_gpu(device) else None
        #: The least that was in use when the meter was made, and before any pass.
        self.start = self.now()
        self._peak = 0.0

    def now(self) -> float:
        """Memory in use."""
        return used_gib(self._device)

    def begin(self) -> None:
        """To be called before a pass: what earlier work of this process held may be given back as late as that."""
        self.start = min(self.start, self.now())

    def sample(self) -> None:
        """Looks: to be called where much is held, between a forward and its backward pass."""
        self._peak = max(self._peak, self._highest.gib if self._highest is not None else self.now())

    @property
    def peak(self) -> float:
        """The highest sample above the start."""
        return max(0.0, self._peak - self.start)


#: Share of the free memory that a pass may take; the rest is for what a prediction misses.
_SHARE = 0.85


def predicted_gib_per_token(model: Any, dtype: torch.dtype) -> float:
    """GiB per token that a pass keeps for its backward pass, by formula.

    17 widths a token and layer (Korthikanti et al. 2022, arXiv 2205.05198), and the inputs of adapted layers.
    """
    config = text_config(model)
    inner = getattr(config, "intermediate_size", None)
    kept = len(blocks(model)) * (20 * config.hidden_size + (inner if isinstance(inner, int) else 2 * config.hidden_size))
    return float(dtype.itemsize * kept) / GIB


class MemoryWatch:
    """Memory forecast of a pass, from the largest pass seen, or from ``per_token`` before there was one."""

    def __init__(self, device: torch.device, per_token: float, meter: MemoryMeter) -> None:
        self._device = device
        self._per_token = per_token
        self._meter = meter
        self._largest = 0

    def fits(self, tokens: int) -> bool:
        """True when a pass over ``tokens`` would fit. Memory that the allocator kept of earlier passes counts as free."""
        if tokens <= self._largest:
            return True
        free = free_gib(self._device)
        if not is_gpu(self._device):
            free += max(0.0, self._meter.now() - self._meter.start)
        return tokens * self._per_token <= _SHARE * free

    def passed(self, tokens: int) -> None:
        """Learns from a pass that the meter has sampled."""
        if tokens > self._largest:
            self._largest, self._per_token = tokens, max(self._meter.peak, 0.0) / tokens
