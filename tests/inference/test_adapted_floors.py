"""Adapters of many tenants on one encoder in the real engine: mixed in a batch, within the budget, and each for its own rows alone."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from support.encoder_adapters import adapted_servable, linear_shapes, write_adapted_floor
from support.model_families import write_family
from support.tiny_encoder import write_tiny_encoder
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import InvalidInput, ModelInvalid, NotFound
from tailorbird.domain.prompt import Message
from tailorbird.inference.engine import TorchEngine
from tailorbird.inference.retrieval import TorchEncoder
from tailorbird.inference.shared_encoder import SharedEncoder
from tailorbird.ports.engine import Residency

LABELS = ("card", "refund", "top up")
TEXTS = ("w1 w2 w3", "w4", "w5 w6 w7 w8 w9 w10 w11 w12 w13 w14 w15 w16 w17 w18 w19 w20 w21 w22 w23 w24 w25 w26 w27", "w28 w29")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def floors(base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    place, shapes = tmp_path_factory.mktemp("floors"), linear_shapes(base)
    return [write_adapted_floor(place / str(number), shapes, LABELS, number) for number in range(12)]


@pytest.fixture
def servables(base: Path, floors: list[Path]) -> list[Servable]:
    """Each of a tenant of its own."""
    return [adapted_servable(digest_bytes(floor.name.encode()), f"t{floor.name}", floor, base, LABELS) for floor in floors]


@pytest.fixture
def engine() -> Iterator[TorchEngine]:
    opened = TorchEngine("fp32")
    yield opened
    opened.close()


def asked(text: str) -> list[Message]:
    return [Message(role="system", content="Classify."), Message(role="user", content=text)]


def answers_alone(engine: TorchEngine, servable: Servable, texts: Sequence[str]) -> list[tuple[float, ...]]:
    return [engine.score(servable.id, [asked(text)], LABELS)[0].log_probabilities for text in texts]


def residency(engine: TorchEngine, servable: Servable) -> Residency:
    return next(one for one in engine.state().releases if one.release == servable.id)


def test_rows_of_many_adapters_in_one_batch_are_what_each_alone_is(base: Path, floors: list[Path]) -> None:
    encoder = SharedEncoder(base)
    adapters = [encoder.read_adapter(floor) for floor in floors]
    rows = [(text, adapter) for adapter in adapters for text in TEXTS]
    random.Random(3).shuffle(rows)
    mixed = encoder.embed([text for text, _ in rows], [adapter for _, adapter in rows])
    alone = np.concatenate([encoder.embed([text], [adapter]) for text, adapter in rows])
    np.testing.assert_allclose(mixed, alone, atol=2e-6)
    merged = TorchEncoder().embed(base, TEXTS, floors[0] / "adapter")
    mine = [place for place, (_, adapter) in enumerate(rows) if adapter is adapters[0]]
    order = [TEXTS.index(rows[place][0]) for place in mine]
    np.testing.assert_allclose(mixed[mine], merged[order], atol=2e-6)
    others = encoder.embed(TEXTS, [adapters[1]] * len(TEXTS))
    assert np.abs(others - merged).max() > 0.1, "adapters that answer alike would prove nothing"


@pytest.mark.parametrize("number", [float("nan"), 1e30])
def test_no_number_of_a_neighbour_reaches_a_row(base: Path, floors: list[Path], tmp_path: Path, number: float) -> None:
    encoder, broken = SharedEncoder(base), write_adapted_floor(tmp_path / "broken", linear_shapes(base), LABELS, 99)
    file = broken / "adapter" / "adapter_model.safetensors"
    save_file({name: torch.full_like(tensor, number) for name, tensor in load_file(file).items()}, file)
    sound, ill = encoder.read_adapter(floors[0]), encoder.read_adapter(broken)
    found = encoder.embed([TEXTS[0], TEXTS[3], TEXTS[0]], [ill, sound, ill])
    np.testing.assert_allclose(found[1:2], encoder.embed([TEXTS[3]], [sound]), atol=2e-6)
    assert not np.isfinite(found[0]).all()


#: Families of encoders, and how many of their tokens are read at once.
FAMILIES = {
    "bert": 256,
    "mpnet": 0,
}


@pytest.mark.parametrize(("family", "together"), FAMILIES.items())
def test_every_family_gives_what_its_merged_weights_give(tmp_path: Path, family: str, together: int) -> None:
    """Positions that are counted anew, windows, or distances keep some from being asked without padding: it is found out by trial."""
    base = write_family(tmp_path / "base", family)
    encoder, whole = SharedEncoder(base), TorchEncoder()
    assert encoder.together == together
    made = [write_adapted_floor(tmp_path / str(seed), linear_shapes(base), LABELS, seed, width=encoder.width) for seed in (1, 2)]
    texts = ("one", "the second text of these is longer than the first", "and a third")
    mixed = encoder.embed(texts * 2, [encoder.read_adapter(floor) for floor in made for _ in texts])
    merged = np.concatenate([whole.embed(base, texts, floor / "adapter") for floor in made])
    np.testing.assert_allclose(mixed, merged, atol=1e-5)
    assert np.abs(mixed[:3] - mixed[3:]).max() > 0.01


def test_an_encoder_stands_once_for_all_who_share_it(engine: TorchEngine, servables: list[Servable], base: Path) -> None:
    before, whole = engine.state().memory_used, SharedEncoder(base).nbytes
    for servable in servables:
        engine.load(servable)
    assert engine.loaded() == tuple(servable.id for servable in servables)
    each = (engine.state().memory_used - before - whole) / len(servables)
    assert 0 < each < whole / 2
    for servable in servables:
        engine.unload(servable.id)
    assert engine.state().memory_used == before
    assert engine.loaded() == ()
    with pytest.raises(NotFound):
        engine.score(servables[0].id, [asked("w1")], LABELS)


def test_under_load_each_tenant_is_answered_by_its_own_adapter_within_the_budget(
    engine: TorchEngine, servables: list[Servable], base: Path
) -> None:
    """Twelve that answer differently, of which four fit: what is asked at the same time is mixed, put out and read again."""
    expected = {}
    for servable in servables:
        engine.load(servable)
        expected[servable.id] = answers_alone(engine, servable, TEXTS)
    spread = {answers[0] for answers in expected.values()}
    assert len(spread) == len(servables)
    whole = SharedEncoder(base).nbytes
    held = engine.state().memory_used
    budget = whole + (held - whole) // 3
    engine._registry.budget = budget
    engine._registry.make_room()
    assert engine.state().memory_used <= budget
    draw, wrong, answered = random.Random(1), list[object](), list[str]()
    work = [(draw.choice(servables), draw.randrange(len(TEXTS))) for _ in range(600)]
    lock = threading.Lock()

    def client() -> None:
        while True:
            with lock:
                if not work:
                    return
                servable, place = work.pop()
            (found,) = engine.score(servable.id, [asked(TEXTS[place])], LABELS)
            if not np.allclose(found.log_probabilities, expected[servable.id][place], atol=1e-4):
                wrong.append((servable.tenant, place))
            answered.append(servable.tenant)

    clients = [threading.Thread(target=client) for _ in range(16)]
    for one in clients:
        one.start()
    for one in clients:
        one.join(120)
    assert wrong == []
    assert len(answered) == 600
    engine._registry.make_room()
    assert engine.state().memory_used <= budget
    told = [residency(engine, servable) for servable in servables]
    assert sum(one.evictions for one in told) > 0
    assert sum(one.loads for one in told) > len(servables)


@pytest.mark.parametrize("damage", ["another width", "another shape", "no bytes"])
def test_what_does_not_fit_its_encoder_is_refused_when_it_is_loaded(engine: TorchEngine, base: Path, tmp_path: Path, damage: str) -> None:
    shapes = linear_shapes(base)
    if damage == "another shape":
        shapes = {path: (outputs, inputs + 1) for path, (outputs, inputs) in shapes.items()}
    floor = write_adapted_floor(tmp_path / "mine", shapes, LABELS, 50, width=31 if damage == "another width" else 32)
    if damage == "no bytes":
        (floor / "adapter" / "adapter_model.safetensors").write_bytes(b"")
    before = engine.state().memory_used
    with pytest.raises(ModelInvalid) as told:
        engine.load(adapted_servable(digest_bytes(b"mine"), "acme", floor, base, LABELS))
    assert told.value.error_code == ("model_invalid" if damage == "another width" else "adapter_invalid")
    assert (engine.loaded(), engine.state().memory_used) == ((), before)


def test_other_labels_are_refused(engine: TorchEngine, servables: list[Servable]) -> None:
    engine.load(servables[0])
    with pytest.raises(InvalidInput) as told:
        engine.score(servables[0].id, [asked("w1")], ("card", "refund"))
    assert told.value.error_code == "labels_differ"
