"""Linear layers of a decoder block, held in the engine's number format or in eight bits.

In: joint weights of layers that read the same input. Out: their outputs. Must not know: adapters, batches. Axes: N tokens, I inputs,
O outputs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F


class Linear(NamedTuple):
    """Weight and bias of linear layers that read the same input, their outputs side by side."""

    weight_OI: torch.Tensor
    bias_O: torch.Tensor | None

    def __call__(self, x_NI: torch.Tensor) -> torch.Tensor:
        """Outputs (NO)."""
        return F.linear(x_NI, self.weight_OI, self.bias_O)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.weight_OI.nbytes + (0 if self.bias_O is None else self.bias_O.nbytes)


class EightBits(NamedTuple):
    """The same with weights in int8 and one scale an output; inputs and sums stay in the engine's format."""

    weight_OI: torch.Tensor
    scale_O: torch.Tensor
    bias_O: torch.Tensor | None

    def __call__(self, x_NI: torch.Tensor) -> torch.Tensor:
        """Outputs (NO), by torch's own kernel."""
        multiply: Any = torch._weight_int8pack_mm
        y_NO: torch.Tensor = multiply(x_NI.contiguous(), self.weight_OI, self.scale_O)
        return y_NO if self.bias_O is None else y_NO + self.bias_O

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.weight_OI.nbytes + self.scale_O.nbytes + (0 if self.bias_O is None else self.bias_O.nbytes)


def in_eight_bits(linear: Linear) -> EightBits:
    """Symmetric, to the nearest of 255 levels of each output's largest weight: of the scale as it is held, which is what they are
    multiplied with."""
    weight_OI = linear.weight_OI.float()
    scale_O = (weight_OI.abs().amax(dim=1) / 127).clamp_min(torch.finfo(torch.float32).tiny).to(linear.weight_OI.dtype)
    rounded_OI = (weight_OI / scale_O.float()[:, None]).round().clamp(-127, 127).to(torch.int8)
    return EightBits(rounded_OI.contiguous(), scale_O, linear.bias_O)
