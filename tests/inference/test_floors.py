"""A floor in the real engine: it answers without any model's weights, to both doors, and refuses what is not its own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from support.doubles import MemoryEncoder
from support.floors import floors_of
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import InvalidInput, ModelInvalid, NotFound
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Message, PromptSpec, Sampling
from tailorbird.inference import open_engine
from tailorbird.inference.engine import TorchEngine
from tailorbird.inference.retrieval import TorchEncoder
from tailorbird.ports.engine import LabelScores, ScoreRequest, Told
from tailorbird.text.linear_classifier import LinearText, write_linear

ID = digest_bytes(b"floor")


LABELS = ("card", "refund", "top up")


ASKED = [Message(role="system", content="Classify: refund."), Message(role="user", content="where is my card")]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[TorchEngine]:
    weights = np.zeros((3, 2))
    weights[0, 0] = weights[1, 1] = 2.0
    write_linear(LinearText(LABELS, {"card": 0, "refund": 1}, {}, np.ones(2), weights, np.zeros(3)), tmp_path)
    opened = open_engine("fp32")
    prompt = PromptSpec(instruction="Classify.", labels=LABELS)
    servable = Servable(
        id=ID, tenant="acme", task=TaskKind.CLASSIFY, base="", adapter=None, weights=None, prompt=prompt, floor=str(tmp_path)
    )
    opened.load(servable)
    yield opened
    opened.close()


def test_it_reads_the_last_message_alone_and_answers_in_the_order_asked(engine: TorchEngine) -> None:
    assert engine.loaded() == (ID,)
    [found] = engine.score(ID, [ASKED], LABELS)
    assert np.argmax(found.log_probabilities) == 0
    assert sum(np.exp(found.log_probabilities)) == pytest.approx(1)
    assert found.prompt_tokens == 0
    [backward] = engine.score(ID, [ASKED], LABELS[::-1])
    assert backward.log_probabilities == found.log_probabilities[::-1]


def test_a_submitted_request_is_answered_at_once(engine: TorchEngine) -> None:
    told: list[Told] = []
    cancel = engine.submit(ScoreRequest(release=ID, prompt=tuple(ASKED), labels=LABELS), lambda one: told.append(one) is None)
    cancel()
    assert isinstance(told[0], LabelScores)


def test_what_is_not_its_own_is_refused(engine: TorchEngine) -> None:
    with pytest.raises(InvalidInput, match="own labels"):
        engine.score(ID, [ASKED], ("card", "refund"))
    with pytest.raises(NotFound):
        engine.generate(ID, [ASKED], Sampling())
    engine.unload(ID)
    assert engine.loaded() == ()
    with pytest.raises(NotFound):
        engine.score(ID, [ASKED], LABELS)


def test_the_vectors_that_requests_are_compared_with_are_in_the_budget(tmp_path: Path) -> None:
    encoder, rows = MemoryEncoder(), [f"card number {place}" for place in range(2_000)]
    vectors = encoder.embed(tmp_path, rows)
    weights, width = np.zeros((3, 1 + vectors.shape[1])), vectors.shape[1]
    model = LinearText(LABELS, {"card": 0}, {}, np.ones(1), weights, np.zeros(3), width, references_NW=vectors)
    (tmp_path / "encoder").mkdir()
    write_linear(model, tmp_path)
    prompt = PromptSpec(instruction="Classify.", labels=LABELS)
    servable = Servable(
        id=ID, tenant="acme", task=TaskKind.CLASSIFY, base="", adapter=None, weights=None, prompt=prompt, floor=str(tmp_path)
    )
    floors, registry = floors_of(lambda: encoder)
    floors.load(servable)
    assert registry.used >= 4 * 2_000 * width
    floors.unload(ID)
    assert registry.used == 0


def test_what_floors_hold_is_told_with_the_weights(engine: TorchEngine) -> None:
    held = engine.state().memory_used
    assert held >= 8 * (2 + 3 * 2 + 3)
    engine.unload(ID)
    assert engine.state().memory_used < held


ASKED_OF_VECTORS = ("a thief took my Visa", "reimburse me please", "depositing cash")


def write_with_encoder(encoder_folder: Path, folder: Path) -> Servable:
    """A floor whose words say nothing, and whose weights are the vectors of three sentences."""
    folder.mkdir()
    sentences = ["My card was stolen", "I want my money back", "How do I add funds to the account"]
    vectors = TorchEncoder().embed(encoder_folder, sentences)
    weights = np.concatenate([np.zeros((3, 2)), 9 * vectors], axis=1)
    write_linear(LinearText(LABELS, {"card": 0, "refund": 1}, {}, np.ones(2), weights, np.zeros(3), vectors.shape[1]), folder)
    shutil.copytree(encoder_folder, folder / "encoder")
    prompt = PromptSpec(instruction="Classify.", labels=LABELS)
    name = digest_bytes(folder.name.encode())
    return Servable(id=name, tenant="acme", task=TaskKind.CLASSIFY, base="", adapter=None, weights=None, prompt=prompt, floor=str(folder))


@pytest.mark.slow
def test_one_that_reads_vectors_asks_its_own_encoder(encoder_folder: Path, tmp_path: Path) -> None:
    """The real encoder: a text without a word that train had goes where its meaning lies."""
    servable = write_with_encoder(encoder_folder, tmp_path / "one")
    opened = open_engine("fp32")
    try:
        opened.load(servable)
        asked = [[Message(role="user", content=text)] for text in ASKED_OF_VECTORS]
        found = [LABELS[int(np.argmax(one.log_probabilities))] for one in opened.score(servable.id, asked, LABELS)]
        assert found == list(LABELS)
    finally:
        opened.close()


@pytest.mark.slow
def test_equal_encoders_are_in_memory_once_and_go_with_the_last_floor(encoder_folder: Path, tmp_path: Path) -> None:
    one, other = (write_with_encoder(encoder_folder, tmp_path / name) for name in ("one", "other"))
    engine = open_engine("fp32")
    try:
        before = engine.state().memory_used
        engine.load(one)
        alone = engine.state().memory_used
        assert alone - before > 80e6
        engine.load(other)
        assert {one.id, other.id} <= {release.release for release in engine.state().releases}
        assert 0 < engine.state().memory_used - alone < 1e6, "the floor's own arrays"
        engine.unload(one.id)
        assert engine.state().memory_used == alone
        asked = [[Message(role="user", content=text)] for text in ASKED_OF_VECTORS]
        assert [np.argmax(found.log_probabilities) for found in engine.score(other.id, asked, LABELS)] == [0, 1, 2]
        engine.unload(other.id)
        assert engine.state().memory_used == before
    finally:
        engine.close()


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["no bytes", "another width"])
def test_a_damaged_encoder_is_found_when_it_is_loaded(encoder_folder: Path, tmp_path: Path, damage: str) -> None:
    servable = write_with_encoder(encoder_folder, tmp_path / "one")
    if damage == "no bytes":
        (tmp_path / "one" / "encoder" / "model.safetensors").write_bytes(b"")
    else:
        write_linear(LinearText(LABELS, {"card": 0}, {}, np.ones(1), np.zeros((3, 3)), np.zeros(3), 2), tmp_path / "one")
    floors, registry = floors_of(TorchEncoder)
    with pytest.raises(ModelInvalid, match="encoder of this floor") as caught:
        floors.load(servable)
    assert caught.value.error_code == "model_invalid"
    assert (floors.ids(), registry.used) == ((), 0)
