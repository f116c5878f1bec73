"""Memory for keys and values is zero, and costs nothing until it is written."""

from __future__ import annotations

import pytest
import torch

from tailorbird.domain.errors import Unavailable
from tailorbird.inference.forward import lazy_memory
from tailorbird.inference.forward.lazy_memory import lazy_zeros


def test_a_system_without_room_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(lazy_memory.mmap, "mmap", full)
    with pytest.raises(Unavailable) as caught:
        lazy_zeros(2**21, dtype=torch.bfloat16)
    assert "engine_kv_mb" in caught.value.hint
