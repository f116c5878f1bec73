"""The twin's adapter cache holds after every event what the engine's registry holds on the same trace."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.deployment import Servable
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import PromptSpec
from tailorbird.inference.registry import Loaded, Registry
from tailorbird.planning.adapter_cache import AdapterCache

ADAPTERS, BASE, SIZES = 8, 100, (10, 10, 30, 10, 20, 10, 10, 20)


class BareRegistry(Registry):
    """Without tokenizers: about residency alone."""

    def _described(self, servable: Servable, pinned: bool) -> Loaded:
        chat: Any = SimpleNamespace(highest_token=0)
        none: Any = None
        return Loaded(servable, chat, none, none, b"", pinned=pinned)


def registry(budget: int) -> Registry:
    def decoder(_: Path) -> Any:
        return SimpleNamespace(nbytes=BASE, context=10, vocabulary=10)

    def adapter(folder: Path, _: Any) -> Any:
        return SimpleNamespace(nbytes=SIZES[int(folder.name)])

    made = BareRegistry((decoder, adapter), budget, freed=lambda _: None, put_out=lambda _: None)
    for number in range(ADAPTERS):
        made.load(servable(number))
    return made


def servable(number: int) -> Servable:
    spec = PromptSpec(instruction="Answer.")
    return Servable(
        id=digest_of(number), tenant="acme", task=TaskKind.GENERATE, base="base", weights=None, adapter=f"none/{number}", prompt=spec
    )


#: Each request asks for an adapter and is over after so many more came.
requests = st.lists(st.tuples(st.integers(0, ADAPTERS - 1), st.integers(0, 4)), max_size=60)


@given(requests, st.integers(30, 140))
@settings(max_examples=150, deadline=None)
def test_it_holds_what_the_engine_holds(coming: list[tuple[int, int]], budget: int) -> None:
    engine, twin = registry(BASE + budget), AdapterCache(SIZES, budget)
    for number in range(ADAPTERS):
        twin.bring(number)
    ends: list[tuple[int, int, Loaded]] = []
    for place, (adapter, lasts) in enumerate(coming):
        loaded = engine.hold(digest_of(adapter))
        was_there = loaded.is_resident
        assert twin.hold(adapter) == was_there
        if not was_there:
            engine.bring(loaded)
            assert twin.bring(adapter)
        ends.append((place + lasts, adapter, loaded))
        for one in [one for one in ends if one[0] <= place]:
            ends.remove(one)
            engine.release(one[2])
            twin.release(one[1])
        resident = {int(one.weights[1].folder.name) for one in engine._servables.values() if one.is_resident}
        assert set(twin.resident) == resident
