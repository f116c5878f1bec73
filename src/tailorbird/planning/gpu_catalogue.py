"""Common GPUs, as their makers' data sheets describe them.

Rates are dense figures for bf16 (fp16 where there is no bf16) and fp32 in TFLOP/s, power in watts, memory in GiB as the driver shows it,
bandwidth of the memory in GB/s: the data sheets of NVIDIA for T4, L4, A10, L40S, A100, H100 and H200, its HGX page for B200, and its
architecture papers of Ada and Blackwell for RTX 4090 and 5090. Prices are round numbers for an hour, to be replaced by one's own:
``price=``.
"""

from __future__ import annotations

from dataclasses import dataclass

from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.plan import Machine
from tailorbird.text.normalisation import nearest


@dataclass(frozen=True)
class Gpu:
    """``fast_bf16``: it multiplies bf16 matrices (compute capability 8 or later)."""

    title: str
    memory_gb: float
    bf16: float
    fp32: float
    bandwidth: float
    watts: float
    per_hour: float
    fast_bf16: bool = True


GPUS = {
    "t4": Gpu("NVIDIA T4", 15, 65, 8.1, 320, 70, 0.4, fast_bf16=False),
    "l4": Gpu("NVIDIA L4", 22.5, 121, 30.3, 300, 72, 0.7),
    "a10": Gpu("NVIDIA A10", 22.5, 125, 31.2, 600, 150, 1.0),
    "rtx4090": Gpu("NVIDIA RTX 4090", 24, 165, 82.6, 1008, 450, 0.6),
    "rtx5090": Gpu("NVIDIA RTX 5090", 31.5, 209, 104.8, 1792, 575, 0.8),
    "l40s": Gpu("NVIDIA L40S", 44, 362, 91.6, 864, 350, 1.6),
    "a100": Gpu("NVIDIA A100 80 GB", 79, 312, 19.5, 2039, 400, 2.0),
    "h100": Gpu("NVIDIA H100 SXM", 79, 989, 67, 3350, 700, 3.5),
    "h200": Gpu("NVIDIA H200 SXM", 140, 989, 67, 4800, 700, 4.5),
    "b200": Gpu("NVIDIA B200", 178, 2250, 75, 8000, 1000, 6.5),
}

#: Share of the maker's rate that a large product of matrices reaches. Assumed, not measured here.
MATMUL_SHARE = 0.7


def gpu_named(name: str) -> Gpu:
    """The GPU called ``name``. Raises InvalidInput."""
    if name.lower() not in GPUS:
        near = nearest(name.lower(), GPUS)
        guess = f"did you mean {near}? " if near else ""
        raise InvalidInput(f"no GPU is known as {name!r}", f"{guess}known: {', '.join(GPUS)}", code="gpu_unknown", param="gpu")
    return GPUS[name.lower()]


def gpu_machine(here: Machine, gpu: Gpu) -> Machine:
    """``here`` with one such GPU, on which everything is computed."""
    return here.model_copy(
        update={
            "gpus": (gpu.title,),
            "memory_gb": gpu.memory_gb,
            "bf16_gflops": 1000 * MATMUL_SHARE * gpu.bf16,
            "fp32_gflops": 1000 * MATMUL_SHARE * gpu.fp32,
            "fast_bf16": gpu.fast_bf16,
            "threads": 0,
            "bandwidth_gbs": gpu.bandwidth,
        }
    )
