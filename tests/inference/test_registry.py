"""Adapters are read behind what the engine computes meanwhile; what all of them stand on is read as fast as it can be."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.last_use import LastUse
from support.oracle import MakeModel, servable, write_adapter
from tailorbird.inference.engine import TorchEngine


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
