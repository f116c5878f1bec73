"""Adapters are read behind what the engine computes meanwhile; what all of them stand on is read as fast as it can be."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.last_use import LastUse
from support.oracle import MakeModel, servable, write_adapter
from tailorbird.inference import engine as engines
from tailorbird.inference.engine import TorchEngine


def noted(read: Callable[..., Any], seen: list[int]) -> Callable[..., Any]:
    """``read``, which notes the niceness of its thread."""

    def reads(*given: Any) -> Any:
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return read(*given)

    return reads


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own")
def test_adapters_alone_are_read_behind_what_is_computed(make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, decoders, adapters = make_model("llama"), list[int](), list[int]()
    write_adapter(base, tmp_path / "one", seed=1)
    decoder, read = engines.reader_of_decoders, engines.reader_of_adapters
    monkeypatch.setattr(engines, "reader_of_decoders", lambda *given: noted(decoder(*given), decoders))
    monkeypatch.setattr(engines, "reader_of_adapters", noted(read, adapters))
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    engine = TorchEngine("fp32", "plain")
    engine.load(servable(base, adapter=tmp_path / "one"))
    engine.close()
    assert decoders == [own]
    assert adapters == [min(19, own + 10)]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == own


def test_the_last_user_may_go_while_another_finds_the_base(make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, engine = make_model("llama"), TorchEngine("fp32", "plain")
    for seed, name in enumerate(("first", "second")):
        write_adapter(base, tmp_path / name, seed=seed)
    first, second = (servable(base, name, adapter=tmp_path / name) for name in ("first", "second"))
    registry = engine._registry
    engine.load(first)
    whole, held = registry.used, registry.hold(first.id)
    engine.unload(first.id)
    ending = LastUse(registry, held)
    monkeypatch.setattr(registry, "shared", ending.beside(registry.shared))
    engine.load(second)
    ending.end()
    assert registry.used == whole, "one base and one adapter, both counted"
    with registry.using(second.id) as loaded:
        assert all(registry._weights[str(weights.folder)] is weights for weights in loaded.weights)
    engine.unload(second.id)
    assert registry.used < whole
    assert registry._weights == {}
    engine.close()
