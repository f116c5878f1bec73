"""How much memory a pass takes, and whether it is there: predicted before the first pass, measured from then on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import torch

from tailorbird.training.resource_meter import GIB, MemoryMeter

_CGROUP = Path("/sys/fs/cgroup")
#: Share of the free memory that a pass may take; the rest is for what a prediction misses.
_SHARE = 0.85


def free_gib(device: torch.device) -> float:
    """GiB that this process may still take: of the device, or of the machine and its container."""
    if device.type == "cuda":
        held_back = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(torch.cuda.mem_get_info(device)[0] + held_back) / GIB
    return min(float(psutil.virtual_memory().available), _left_in_container()) / GIB


def _left_in_container() -> float:
    limit = _CGROUP / "memory.max"
    text = limit.read_text(encoding="ascii").strip() if limit.is_file() else "max"
    if not text.isdecimal():
        return float("inf")
    held = int((_CGROUP / "memory.current").read_text(encoding="ascii"))
    stat = dict(line.split() for line in (_CGROUP / "memory.stat").read_text(encoding="ascii").splitlines())
    return float(int(text) - held + int(stat.get("inactive_file", 0)))


def predicted_gib_per_token(model: Any, dtype: torch.dtype) -> float:
    """What a pass keeps for its backward pass, by formula.

    17 widths a token and layer (Korthikanti et al. 2022, arXiv 2205.05198), and the inputs of adapted layers.
    """
    config = model.config
    kept = config.num_hidden_layers * (20 * config.hidden_size + config.intermediate_size)
    return float(dtype.itemsize * kept) / GIB


class MemoryWatch:
    """Says whether a pass fits into the memory that is free now, from the largest pass seen, or from ``per_token`` before there was one."""

    def __init__(self, device: torch.device, per_token: float, meter: MemoryMeter) -> None:
        self._device = device
        self._per_token = per_token
        self._meter = meter
        self._largest = 0

    def fits(self, tokens: int) -> bool:
        """Whether a pass over ``tokens`` would fit. Memory that the allocator kept of earlier passes counts as free."""
        if tokens <= self._largest:
            return True
        free = free_gib(self._device)
        if self._device.type == "cpu":
            free += max(0.0, self._meter.now() - self._meter.start)
        return tokens * self._per_token <= _SHARE * free

    def passed(self, tokens: int) -> None:
        """Learns from a pass that the meter has sampled."""
        if tokens > self._largest:
            self._largest, self._per_token = tokens, max(self._meter.peak, 0.0) / tokens
