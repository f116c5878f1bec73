"""Machine benchmark: cores, memory, GPUs and matmul rates of the device that training would pick."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import torch

from tailorbird.domain.plan import Machine
from tailorbird.training.network import pick_device
from tailorbird.training.resource_meter import GIB
from tailorbird.training.step_timing import Stopwatch
from tailorbird.training.thread_clocks import usable_cores

_SIDE = 1024


_SECONDS = 0.4


#: Instructions that multiply bf16 matrices at more than the rate of fp32 ones.
_FAST_BF16 = ("avx512_bf16", "amx_bf16")


_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def measure_machine() -> Machine:
    """Cores this process may use, GPUs, and memory and matmul rates of the device that training would pick. About a second."""
    device = pick_device()
    watch = Stopwatch(device)
    fp32, bf16 = (_matmul_gflops(dtype, device, watch) for dtype in (torch.float32, torch.bfloat16))
    watch.leave()
    return Machine(
        cores=usable_cores(),
        memory_gb=round(_memory_bytes(device) / GIB, 2),
        gpus=tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())),
        fp32_gflops=fp32,
        bf16_gflops=bf16,
        fast_bf16=_fast_bf16(device),
        four_bit=find_spec("bitsandbytes") is not None,
        threads=torch.get_num_threads() if device.type == "cpu" else 0,
        loaded=watch.loaded,
    )


def cpu_capability() -> str:
    """The instructions by which products are computed on this processor, whose sums differ in their last bits."""
    return f"{torch.backends.cpu.get_cpu_capability()}{' bf16' if _fast_bf16(torch.device('cpu')) else ''}"


def _fast_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in _FAST_BF16)


def _memory_bytes(device: torch.device) -> int:
    """Memory of the smallest GPU, where one computes; else physical memory, or the container's limit where that is lower."""
    if device.type == "cuda":
        return min(int(torch.cuda.get_device_properties(i).total_memory) for i in range(torch.cuda.device_count()))
    total = int(psutil.virtual_memory().total)
    limit = _CGROUP_LIMIT.read_text(encoding="ascii").strip() if _CGROUP_LIMIT.is_file() else "max"
    return min(total, int(limit)) if limit.isdecimal() else total


@torch.no_grad()
def _matmul_gflops(dtype: torch.dtype, device: torch.device, watch: Stopwatch) -> float:
    """The fastest of repeated square matmuls."""
    square = torch.ones(_SIDE, _SIDE, dtype=dtype, device=device)

    def product() -> None:
        if (square @ square).is_cuda:
            torch.cuda.synchronize()

    product()
    return round(2 * _SIDE**3 / watch.least(product, lasting=_SECONDS) / 1e9, 1)
