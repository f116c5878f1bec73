"""Base of the written-out passes: keys and values in blocks, beginnings shared, adapters of a decoder block's linear layers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tailorbird.inference.forward.weights import Changes, LinearShapes, read_adapter
from tailorbird.inference.scheduling import SequenceNeeds


class WrittenOutForward:
    """What the written-out passes have in common."""

    needs = SequenceNeeds()
    linears: LinearShapes
    layers: int

    def adapt(self, changes: Changes) -> Any:
        """An adapter laid out for this pass; it has ``nbytes``."""
        raise NotImplementedError

    def read_adapter(self, folder: Path) -> Any:
        """The adapter in ``folder``. Raises ModelInvalid."""
        return self.adapt(read_adapter(folder, self.linears, self.layers))

    def release(self, memory: Any, blocks: Sequence[int]) -> None:
        """Blocks are given out anew by the schedule alone."""
