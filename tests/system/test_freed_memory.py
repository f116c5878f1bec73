"""Memory of what nothing refers to is returned."""

from __future__ import annotations

import gc
import weakref

import pytest

from tailorbird.system.machine import resident_gib, return_freed_memory, return_grown_memory, return_growth

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


def test_what_grew_is_collected_and_what_did_not_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    return_grown_memory()
    collections: list[int] = []
    monkeypatch.setattr("tailorbird.system.machine.gc.collect", lambda: collections.append(1))
    return_grown_memory()
    assert not collections
    grown = bytearray(b"x") * (2**28)
    return_grown_memory()
    return_grown_memory()
    assert len(collections) == 1, "once, and again when it has grown further"
    assert grown[-1] == ord("x")


def test_objects_are_not_walked_for_what_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    collections: list[int] = []
    monkeypatch.setattr("tailorbird.system.machine.gc.collect", lambda: collections.append(1))
    return_growth(resident_gib())
    assert not collections
    return_growth(resident_gib() - 0.2)
    assert len(collections) == 1
