"""Memory for keys and values is zero, and costs nothing until it is written."""

from __future__ import annotations

import mmap

import pytest
import torch

from tailorbird.domain.errors import Unavailable
from tailorbird.inference.forward import lazy_memory
from tailorbird.inference.forward.lazy_memory import lazy_zeros
from tailorbird.system.machine import resident_gib


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shape", [(3, 5), (4, 2, 1_000_000)])
def test_it_is_zero_and_can_be_written(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    made = lazy_zeros(*shape, dtype=dtype)
    assert made.shape == shape
    assert made.dtype is dtype
    assert not made[-1].any()
    made[0] = 1
    assert made[0].all()
    assert not made[1].any()


def test_its_pages_are_taken_when_they_are_written() -> None:
    before = resident_gib()
    made = lazy_zeros(2**30, dtype=torch.bfloat16)
    assert resident_gib() - before < 0.25
    made[: 2**29] = 1
    assert resident_gib() - before > 0.75


def test_it_goes_when_the_last_view_of_it_does() -> None:
    before = resident_gib()
    made = lazy_zeros(2, 2**28, dtype=torch.bfloat16)
    made[:] = 1
    row = made[1]
    del made
    assert row.all()
    assert resident_gib() - before > 0.9
    del row
    assert resident_gib() - before < 0.25


def test_a_system_without_large_pages_has_ordinary_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(mmap, "MADV_HUGEPAGE")
    assert not lazy_zeros(2**21, dtype=torch.bfloat16)[:9].any()


def test_a_system_without_room_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(lazy_memory.mmap, "mmap", full)
    with pytest.raises(Unavailable) as caught:
        lazy_zeros(2**21, dtype=torch.bfloat16)
    assert "engine_kv_mb" in caught.value.hint
