"""Probes of the engine, and what a proof of effect tells of wrong mappings, on tiny random models."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import pytest

from support.effects import FaultyDriver, ToldProofs, faulty
from support.oracle import MakeModel, Reference, conversation, servable, write_adapter
from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import Corrupt
from tailorbird.domain.evidence import EffectProof
from tailorbird.inference import open_engine
from tailorbird.ports.engine import LoadRequest, LocalEngine, ProbeRequest
from tailorbird.serving.effect_checks import EffectChecks
from tailorbird.usecases.runs.sealed_test import effect_proof

ALL = ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")
TEXTS = ("my card is lost", "where is my parcel?")


@pytest.fixture(scope="module")
def adapted(make_model: MakeModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[Servable, Path]:
    """A tiny model of four layers with a random adapter on every kind of module, and another adapter."""
    base, folder = make_model("llama", num_hidden_layers=4), tmp_path_factory.mktemp("adapters")
    write_adapter(base, folder / "one", seed=1)
    write_adapter(base, folder / "two", seed=2)
    return servable(base, adapter=folder / "one"), folder / "two"


@pytest.fixture(scope="module")
def engine() -> LocalEngine:
    return open_engine("fp32", "plain")


@pytest.fixture(scope="module")
def proof(adapted: tuple[Servable, Path], engine: LocalEngine, tmp_path_factory: pytest.TempPathFactory) -> EffectProof:
    place = tmp_path_factory.mktemp("scratch")
    found = effect_proof(engine, adapted[0], place)
    assert not list(place.iterdir())
    assert engine.loaded() == ()
    return found


def checked(given: Servable, engine: LocalEngine, proof: EffectProof) -> tuple[EffectChecks, LoadRequest]:
    checks = EffectChecks(FaultyDriver(engine, given), ToldProofs(proof))
    return checks, LoadRequest(tenant="acme", release=given.id, purpose="production")


def test_the_first_token_of_an_answer_has_the_chances_that_transformers_gives_it(
    adapted: tuple[Servable, Path], engine: LocalEngine
) -> None:
    one, _ = adapted
    plain, reference = servable(Path(one.base), "bare"), Reference(Path(one.base))
    prompts = tuple(tuple(conversation(text)) for text in TEXTS)
    for each in (one, plain):
        engine.load(each)
    bare, alone, whole = (
        engine.probe(ProbeRequest(release=release, prompts=prompts, bare=bare))
        for release, bare in ((one.id, True), (plain.id, False), (one.id, False))
    )
    for each in (one, plain):
        engine.unload(each.id)
    for prompt, chances, other, adapter in zip(prompts, bare, alone, whole, strict=True):
        labels = [bytes.fromhex(token).decode() for token in chances.tokens[:3]]
        assert chances.tokens == other.tokens != adapter.tokens
        assert chances.nats == pytest.approx(other.nats, abs=1e-4)
        [expected] = [reference.generate(prompt, 1)]
        assert reference.tokenizer.decode(expected) == labels[0]
        assert sum(math.exp(nats) for nats in chances.nats) <= 1 + 1e-6
        assert list(chances.nats) == sorted(chances.nats, reverse=True)


def test_every_kind_of_module_shows_in_the_proof(proof: EffectProof) -> None:
    assert not proof.unprovable
    assert tuple(sorted(proof.parts)) == ALL
    assert proof.hidden == ()
    assert len(proof.probes) == 4


@pytest.mark.parametrize("fault", ["dropped", "another", "k_proj"])
def test_a_wrong_mapping_is_refused(
    adapted: tuple[Servable, Path], engine: LocalEngine, proof: EffectProof, tmp_path: Path, fault: str
) -> None:
    one, another = adapted
    checks, request = checked(faulty(one, fault, tmp_path, another), engine, proof)
    with pytest.raises(Corrupt) as refused:
        asyncio.run(checks.load(request))
    assert refused.value.error_code == ("adapter_inert" if fault == "dropped" else "adapter_differs")
    assert engine.loaded() == ()


def test_full_weights_are_told_from_their_base_and_from_others(make_model: MakeModel, engine: LocalEngine, tmp_path: Path) -> None:
    base, tuned, other = make_model(), make_model(seed=1), make_model(seed=2)
    whole = servable(base, weights=tuned)
    proof = effect_proof(engine, whole, tmp_path)
    assert (proof.kind, proof.unprovable, proof.parts) == ("weights", "", {})
    checks, request = checked(whole, engine, proof)
    asyncio.run(checks.load(request))
    engine.unload(whole.id)
    for wrong, code in ((None, "adapter_inert"), (other, "adapter_differs")):
        checks, request = checked(whole.model_copy(update={"weights": str(wrong) if wrong else None}), engine, proof)
        with pytest.raises(Corrupt) as refused:
            asyncio.run(checks.load(request))
        assert refused.value.error_code == code
