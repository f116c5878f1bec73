"""Device that an engine computes on: which it is, how it multiplies, and its memory. Nothing else here asks for CUDA."""

from __future__ import annotations

import os
from typing import Any

import torch

from tailorbird.system.machine import memory_limit

#: Instructions that multiply bf16 matrices at more than the rate of fp32 ones.
_FAST_BF16 = ("avx512_bf16", "amx_bf16")
#: The share of the memory that weights may take, unless the settings say otherwise: of a GPU, which holds nothing but weights, keys and
#: values and what is computed; of a machine, where other programs run.
_GPU_SHARE, _CPU_SHARE = 0.75, 0.5


def pick_device() -> torch.device:
    """The first CUDA device, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def is_gpu(device: torch.device) -> bool:
    """True where memory is the device's own."""
    return device.type == "cuda"


def is_bf16_fast(device: torch.device) -> bool:
    """True where the device multiplies bf16 matrices at more than the rate of fp32 ones."""
    if is_gpu(device):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in _FAST_BF16)


def memory_budget(memory_mb: int = 0) -> int:
    """Bytes that weights may take: ``memory_mb`` megabytes, or with 0 a part of the memory of the device that is computed on (of the
    container's, where that is lower)."""
    if memory_mb:
        return memory_mb * 2**20
    device = pick_device()
    if is_gpu(device):
        return int(torch.cuda.get_device_properties(device).total_memory * _GPU_SHARE)
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(min(machine, memory_limit()) * _CPU_SHARE)
