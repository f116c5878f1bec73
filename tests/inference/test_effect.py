"""Probes of the engine, and what a proof of effect tells of wrong mappings, on tiny random models."""

from __future__ import annotations

import asyncio
import math
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from support.effects import FAULTS, FaultyDriver, ToldProofs, faulty
from support.encoder_adapters import adapted_servable, linear_shapes, write_adapted_floor
from support.oracle import MakeModel, Reference, conversation, servable, write_adapter
from support.tiny_encoder import write_tiny_encoder
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import Corrupt, Internal
from tailorbird.domain.evidence import EffectProof, EffectStanding
from tailorbird.inference import open_engine
from tailorbird.ports.engine import LoadRequest, LocalEngine, ProbeRequest
from tailorbird.rungs.training import without
from tailorbird.serving.effect_checks import EffectChecks
from tailorbird.text.linear_classifier import ADAPTER
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


def test_what_probes_begin_with_is_computed_once(adapted: tuple[Servable, Path], engine: LocalEngine) -> None:
    """And the vocabulary is listed once for each tokenizer: a hundred thousand tokens keep every thread waiting."""
    one, _ = adapted
    engine.load(one)
    before = engine.state()
    engine.probe(
        ProbeRequest(release=one.id, prompts=tuple(tuple(conversation("a word of many letters " * 8 + text)) for text in TEXTS * 2))
    )
    after = engine.state()
    engine.unload(one.id)
    assert after.prefix_hits - before.prefix_hits > (after.prefix_queries - before.prefix_queries) / 2


def test_an_adapter_that_computes_no_numbers_is_said_to(make_model: MakeModel, engine: LocalEngine, tmp_path: Path) -> None:
    base = make_model()
    write_adapter(base, tmp_path / "lost", seed=1)
    file = tmp_path / "lost" / "adapter_model.safetensors"
    save_file({name: tensor * math.nan for name, tensor in load_file(file).items()}, file, metadata={"format": "pt"})
    with pytest.raises(Internal) as refused:
        effect_proof(engine, servable(base, adapter=tmp_path / "lost"), tmp_path)
    assert refused.value.error_code == "internal"
    assert engine.loaded() == ()


def test_every_kind_of_module_shows_in_the_proof(proof: EffectProof) -> None:
    assert not proof.unprovable
    assert tuple(sorted(proof.parts)) == ALL
    assert proof.hidden == ()
    assert len(proof.probes) == 4


def test_the_same_engine_shows_it(adapted: tuple[Servable, Path], engine: LocalEngine, proof: EffectProof) -> None:
    checks, request = checked(adapted[0], engine, proof)
    asyncio.run(checks.load(request))
    reading = checks.readings[request.release]
    engine.unload(request.release)
    assert reading.standing is EffectStanding.SHOWN
    assert reading.distance < 1e-3


@pytest.mark.parametrize("fault", [*FAULTS, *ALL])
def test_a_wrong_mapping_is_refused(
    adapted: tuple[Servable, Path], engine: LocalEngine, proof: EffectProof, tmp_path: Path, fault: str
) -> None:
    one, another = adapted
    checks, request = checked(faulty(one, fault, tmp_path, another), engine, proof)
    with pytest.raises(Corrupt) as refused:
        asyncio.run(checks.load(request))
    assert refused.value.error_code == ("adapter_inert" if fault == "dropped" else "adapter_differs")
    assert engine.loaded() == ()


def test_another_precision_shows_it_within_its_own_noise(adapted: tuple[Servable, Path], proof: EffectProof) -> None:
    engine = open_engine("bf16", "plain")
    try:
        checks, request = checked(adapted[0], engine, proof)
        asyncio.run(checks.load(request))
        reading = checks.readings[request.release]
        assert reading.standing is EffectStanding.SHOWN
        assert reading.noise > 0.005
    finally:
        engine.close()


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


def test_an_encoder_whose_adapter_is_left_out_is_refused(engine: LocalEngine, tmp_path: Path) -> None:
    encoder, labels = write_tiny_encoder(tmp_path / "encoder"), ("card", "refund", "top up")
    floor = write_adapted_floor(tmp_path / "floor", linear_shapes(encoder), labels, 1)
    shutil.copytree(floor, tmp_path / "bare")
    shutil.rmtree(tmp_path / "bare" / ADAPTER)
    without(floor / ADAPTER, tmp_path / "bare" / ADAPTER, lambda _: True)
    one, bare = (adapted_servable(digest_bytes(b"one"), "acme", each, encoder, labels) for each in (floor, tmp_path / "bare"))
    proof = effect_proof(engine, one, tmp_path)
    assert (proof.kind, proof.labels, proof.unprovable) == ("scores", labels, "")
    for given, shown in ((one, True), (bare, False)):
        checks, request = checked(given, engine, proof)
        with nullcontext() if shown else pytest.raises(Corrupt):
            asyncio.run(checks.load(request))
        assert (checks.readings[one.id].standing is EffectStanding.SHOWN) == shown
        engine.unload(one.id)


def test_a_prompt_on_another_base_is_refused(make_model: MakeModel, engine: LocalEngine, tmp_path: Path) -> None:
    one, other = servable(make_model()), servable(make_model(seed=1))
    proof = effect_proof(engine, one, tmp_path)
    checks, request = checked(one, engine, proof)
    asyncio.run(checks.load(request))
    engine.unload(one.id)
    checks, request = checked(other, engine, proof)
    with pytest.raises(Corrupt) as refused:
        asyncio.run(checks.load(request))
    assert refused.value.error_code == "adapter_differs"


@pytest.mark.parametrize("family", ["gpt_neox", "gemma2", "qwen3"])
def test_other_families_and_the_pass_of_transformers_show_theirs(
    make_model: MakeModel, engine: LocalEngine, tmp_path: Path, family: str
) -> None:
    base = make_model(family, num_hidden_layers=2)
    modules = {"gpt_neox": ["query_key_value", "dense", "dense_h_to_4h"]}.get(family, ["q_proj", "v_proj", "down_proj"])
    for seed, name in ((1, "one"), (2, "two")):
        write_adapter(base, tmp_path / name, seed=seed, target_modules=modules)
    one = servable(base, family, adapter=tmp_path / "one")
    proof = effect_proof(engine, one, tmp_path)
    assert (proof.unprovable, tuple(sorted(proof.parts))) == ("", tuple(sorted(modules)))
    checks, request = checked(one, engine, proof)
    asyncio.run(checks.load(request))
    engine.unload(one.id)
    for fault in ("dropped", "another", "half of the layers", modules[0]):
        wrong, _ = checked(faulty(one, fault, tmp_path, tmp_path / "two"), engine, proof)
        with pytest.raises(Corrupt):
            asyncio.run(wrong.load(request))


@pytest.mark.slow
def test_the_real_model_shows_its_adapter_and_not_one_without_its_keys(base_model_folder: Path, tmp_path: Path) -> None:
    """By the pass that serves on this machine, in its precision."""
    write_adapter(base_model_folder, tmp_path / "one", seed=1)
    one, engine = servable(base_model_folder, adapter=tmp_path / "one"), open_engine()
    try:
        proof = effect_proof(engine, one, tmp_path)
        assert (proof.unprovable, proof.hidden) == ("", ())
        checks, request = checked(one, engine, proof)
        asyncio.run(checks.load(request))
        assert checks.readings[request.release].standing is EffectStanding.SHOWN
        engine.unload(one.id)
        checks, request = checked(faulty(one, "k_proj", tmp_path, tmp_path), engine, proof)
        with pytest.raises(Corrupt):
            asyncio.run(checks.load(request))
    finally:
        engine.close()
