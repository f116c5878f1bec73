"""Adapters are read behind what the engine computes meanwhile; what all of them stand on is read as fast as it can be."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support.last_use import LastUse
from support.oracle import MakeModel, servable, write_adapter
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.deployment import Servable
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import PromptSpec
from tailorbird.inference.engine import TorchEngine
from tailorbird.inference.registry import Loaded, Registry


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


class BareRegistry(Registry):
    """Without tokenizers. A decoder takes 100 bytes and an adapter 10; reading an adapter anew waits for ``going``."""

    def __init__(self, budget: int) -> None:
        self.dropped: list[int] = []
        self.reading, self.going = threading.Event(), threading.Event()
        self.going.set()
        super().__init__((self._decoder, self._adapter), budget, lambda _: None, lambda gone: self.dropped.append(gone.nbytes))

    def _decoder(self, _: Path) -> Any:
        return SimpleNamespace(nbytes=100, context=10, vocabulary=10)

    def _adapter(self, _: Path, decoder: Any) -> Any:
        assert decoder is not None, "an adapter is read for a decoder"
        self.reading.set()
        assert self.going.wait(10)
        return SimpleNamespace(nbytes=10)

    def _described(self, servable: Servable, pinned: bool) -> Loaded:
        chat: Any = SimpleNamespace(highest_token=0)
        none: Any = None
        return Loaded(servable, chat, none, none, b"", pinned=pinned)


def of_adapter(name: str) -> Servable:
    named = {"id": digest_of(name), "tenant": "acme", "task": TaskKind.GENERATE, "base": "base", "weights": None}
    return Servable(**named, adapter=f"none/{name}", prompt=PromptSpec(instruction="Answer."))


def test_a_servable_is_unloaded_while_another_is_read() -> None:
    registry = BareRegistry(1000)
    registry.load(of_adapter("first"))
    registry.reading.clear()
    registry.going.clear()
    loading = threading.Thread(target=registry.load, args=(of_adapter("second"),))
    loading.start()
    assert registry.reading.wait(10)
    unloading = threading.Thread(target=registry.unload, args=(digest_of("first"),))
    unloading.start()
    unloading.join(5)
    waited = unloading.is_alive()
    registry.going.set()
    loading.join(10)
    unloading.join(10)
    assert not waited
    assert registry.ids() == (digest_of("second"),)
