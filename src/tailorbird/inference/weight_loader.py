"""How weights get from a folder into memory, and how much memory they may take."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tailorbird.inference.forward.adapter import read_adapter
from tailorbird.inference.forward.precision import Placement
from tailorbird.inference.forward.weights import read_weights
from tailorbird.inference.forward_factory import Forward, forward_of

#: The share of the machine's memory that weights may take, unless TAILORBIRD_ENGINE_MEMORY_MB says otherwise.
_SHARE = 0.5


def reader_of_decoders(placement: Placement, kernels: str) -> Callable[[Path], Forward]:
    """Reads the model in a folder as ``placement`` says, to be computed by ``kernels``. Raises ModelInvalid."""
    return lambda folder: forward_of(read_weights(folder, placement), kernels, placement)


def reader_of_adapters(folder: Path, decoder: Any) -> Any:
    """Reads the adapter in a folder for ``decoder``. Raises ModelInvalid."""
    forward: Forward = decoder
    return forward.adapt(read_adapter(folder, forward.linears, forward.layers))


def memory_budget() -> int:
    """Bytes that weights may take."""
    asked = os.environ.get("TAILORBIRD_ENGINE_MEMORY_MB")
    if asked:
        return int(asked) * 2**20
    return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * _SHARE)
