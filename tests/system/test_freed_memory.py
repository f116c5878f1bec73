"""Memory of what nothing refers to is returned."""

from __future__ import annotations

import gc
import weakref

from tailorbird.system.machine import resident_gib, return_freed_memory

_NUMBERS = 2**23


class Cycle:
    """Refers to itself, as a model's modules do to one another."""

    def __init__(self) -> None:
        self.held = bytearray(8 * _NUMBERS)
        self.itself = self


def test_a_cycle_that_nothing_refers_to_gives_its_memory_back() -> None:
    gc.disable()
    try:
        gone = weakref.ref(Cycle())
        before = resident_gib()
        assert gone() is not None, "a cycle outlives its last name"
        return_freed_memory()
        assert gone() is None
        assert resident_gib() < before - 0.05
    finally:
        gc.enable()
