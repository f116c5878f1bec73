"""In which number format, and on which device, models run here."""

from __future__ import annotations

import os
from typing import Any, Literal, NamedTuple

import torch
import transformers

from tailorbird import __version__
from tailorbird.domain.errors import InvalidInput

Precision = Literal["auto", "bf16", "fp32", "int8"]
#: What is computed in; ``int8`` holds the weights of linear layers in eight bits and computes in bf16.
_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32, "int8": torch.bfloat16}
#: Instructions that multiply bf16 matrices at more than the rate of fp32 ones.
_FAST_BF16 = ("avx512_bf16", "amx_bf16")


class Placement(NamedTuple):
    """The number format and the device of an engine."""

    precision: str
    dtype: torch.dtype
    device: torch.device

    @property
    def eight_bits(self) -> bool:
        """True where weights of linear layers are held in int8."""
        return self.precision == "int8"


def place(wish: Precision) -> Placement:
    """``wish`` as a placement; ``auto`` asks the environment variable TAILORBIRD_PRECISION first, then the processor."""
    asked = os.environ.get("TAILORBIRD_PRECISION", "auto") if wish == "auto" else wish
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if asked == "auto":
        asked = "bf16" if _fast_bf16(device) else "fp32"
    if asked not in _DTYPES:
        raise InvalidInput(f"there is no precision {asked!r}", "set TAILORBIRD_PRECISION to bf16, fp32, int8 or auto", code="precision")
    return Placement(asked, _DTYPES[asked], device)


def _fast_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in _FAST_BF16)


def fingerprint(placement: Placement) -> str:
    """Names everything beside the weights that could change a number."""
    libraries = f"torch-{torch.__version__.split('+')[0]} transformers-{transformers.__version__}"
    return f"tailorbird-{__version__} {libraries} {placement.precision} {placement.device.type}"
