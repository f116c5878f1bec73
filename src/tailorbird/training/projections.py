"""Linear layers that read the same input, computed as one.

In: layers. Out: a function of their input that gives their outputs side by side. Must not know: adapters; a kind of layer that can be
joined says so by a static method ``joined``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.functional import linear

#: (T, inputs) to (T, the outputs of all layers).
Projection = Callable[[torch.Tensor], torch.Tensor]


def projection(layers: Sequence[nn.Module], dtype: torch.dtype) -> Projection:
    """``layers`` as one, computed in ``dtype``."""
    kind: Any = type(layers[0])
    if all(type(layer) is kind for layer in layers) and hasattr(kind, "joined"):
        joined: Projection = kind.joined(layers)
        return joined
    return lambda x_TI: torch.cat([_apply(layer, x_TI, dtype) for layer in layers], dim=-1)


def _apply(layer: Any, x_TI: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if type(layer) is not nn.Linear:
        y_TO: torch.Tensor = layer(x_TI)
        return y_TO
    return linear(x_TI, layer.weight.to(dtype), None if layer.bias is None else layer.bias.to(dtype))
