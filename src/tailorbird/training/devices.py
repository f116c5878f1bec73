"""Device that training and engine compute on: which it is, its name, its memory, and waiting for it. Nothing else asks for CUDA."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import torch

from tailorbird.system.machine import PeakMemory, memory_limit, resident_gib
from tailorbird.system.threads import ThreadPool

GIB = 2**30
#: Instructions that multiply bf16 matrices at more than the rate of fp32 ones.
_FAST_BF16 = ("avx512_bf16", "amx_bf16")


def pick_device() -> torch.device:
    """The CUDA device of this process, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def is_gpu(device: torch.device) -> bool:
    """True where work is begun and waited for, and memory is the device's own."""
    return device.type == "cuda"


def thread_pool() -> ThreadPool:
    """The threads with which torch computes."""
    return ThreadPool(torch.get_num_threads)


@contextmanager
def computing_threads(count: int) -> Iterator[None]:
    """Computes with ``count`` threads inside the block; 0 leaves them as they are."""
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def gpu_count() -> int:
    """GPUs of this machine."""
    return int(torch.cuda.device_count())


def gpu_names() -> tuple[str, ...]:
    """GPUs of this machine, by name."""
    return tuple(str(torch.cuda.get_device_name(place)) for place in range(gpu_count()))


def gpu_name(device: torch.device) -> str | None:
    """Name of a GPU; None of a CPU."""
    return str(torch.cuda.get_device_name(device)) if is_gpu(device) else None


def take_gpu(place: int) -> bool:
    """This process computes on the GPU numbered ``place``, counted around. False where there is none."""
    if not torch.cuda.is_available():
        return False
    torch.cuda.set_device(place % gpu_count())
    return True


def is_bf16_fast(device: torch.device) -> bool:
    """True where the device multiplies bf16 matrices at more than the rate of fp32 ones."""
    if is_gpu(device):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in _FAST_BF16)


def wait_for(device: torch.device) -> None:
    """Returns once all work begun on the device is done."""
    if is_gpu(device):
        torch.cuda.synchronize()


def memory_bytes(device: torch.device) -> int:
    """Memory of the smallest GPU, where one computes; else physical memory, or the container's limit where that is lower."""
    if is_gpu(device):
        return min(int(torch.cuda.get_device_properties(place).total_memory) for place in range(gpu_count()))
    return int(min(psutil.virtual_memory().total, memory_limit()))


def used_gib(device: torch.device) -> float:
    """GiB that tensors of this process take on a GPU; of a CPU, all that the process holds."""
    return float(torch.cuda.memory_allocated(device)) / GIB if is_gpu(device) else resident_gib()


class DevicePeak:
    """Highest ``used_gib`` since this was made. On a GPU one counts at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._process = PeakMemory()
        if is_gpu(device):
            torch.cuda.reset_peak_memory_stats(device)

    @property
    def gib(self) -> float:
        """The highest so far."""
        return float(torch.cuda.max_memory_allocated(self._device)) / GIB if is_gpu(self._device) else self._process.gib
