"""Machine benchmark: cores, memory, GPUs and matmul rates of the device that training would pick."""

from __future__ import annotations

from importlib.util import find_spec

import torch

from tailorbird.domain.plan import Machine
from tailorbird.system.threads import usable_cores
from tailorbird.training.devices import GIB, gpu_names, is_bf16_fast, is_gpu, memory_bytes, pick_device, wait_for
from tailorbird.training.step_timing import Stopwatch

_SIDE = 1024
_SECONDS = 0.4


def measure_machine() -> Machine:
    """Cores this process may use, GPUs, and memory and matmul rates of the device that training would pick. About a second."""
    device = pick_device()
    watch = Stopwatch(device)
    fp32, bf16 = (_matmul_gflops(dtype, device, watch) for dtype in (torch.float32, torch.bfloat16))
    watch.leave()
    return Machine(
        cores=usable_cores(),
        memory_gb=round(memory_bytes(device) / GIB, 2),
        gpus=gpu_names(),
        fp32_gflops=fp32,
        bf16_gflops=bf16,
        fast_bf16=is_bf16_fast(device),
        four_bit=find_spec("bitsandbytes") is not None,
        threads=0 if is_gpu(device) else torch.get_num_threads(),
        loaded=watch.loaded,
    )


def cpu_capability() -> str:
    """The instructions by which products are computed on this processor, whose sums differ in their last bits."""
    return f"{torch.backends.cpu.get_cpu_capability()}{' bf16' if is_bf16_fast(torch.device('cpu')) else ''}"


@torch.no_grad()
def _matmul_gflops(dtype: torch.dtype, device: torch.device, watch: Stopwatch) -> float:
    """The fastest of repeated square matmuls."""
    square = torch.ones(_SIDE, _SIDE, dtype=dtype, device=device)

    def product() -> None:
        square @ square
        wait_for(device)

    product()
    return round(2 * _SIDE**3 / watch.least(product, lasting=_SECONDS) / 1e9, 1)
