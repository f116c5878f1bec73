"""What every engine must do: the same questions to the twin and to the real one on the real model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.doubles import MemoryEngine
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.dataset import EVERYONE
from tailorbird.domain.deployment import LocalRetrieval, Servable
from tailorbird.domain.errors import InvalidInput, NotFound
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Entry, Message, PromptSpec, Retrieval, Sampling
from tailorbird.ports.engine import Engine
from tailorbird.text.search_index import write_index

ID = digest_bytes(b"servable")
LABELS = ("refund", "lost card", "top up by bank transfer")
PROMPTS = [[Message(role="user", content=text)] for text in ("my card is lost", "please refund me", "how do I top up?")]


@pytest.fixture(scope="module", params=["memory", pytest.param("torch", marks=pytest.mark.slow)])
def engine(request: pytest.FixtureRequest) -> Engine:
    base: Any = Path("base")
    if request.param == "memory":
        made: Engine = MemoryEngine()
    else:
        from tailorbird.inference import open_engine

        base, made = request.getfixturevalue("base_model_folder"), open_engine("fp32")
    made.load(
        Servable(
            id=ID,
            tenant="acme",
            task=TaskKind.CLASSIFY,
            base=str(base),
            adapter=None,
            weights=None,
            prompt=PromptSpec(instruction="Classify.", labels=LABELS),
        )
    )
    return made


def test_scores_are_normalised_in_the_order_asked_and_repeat(engine: Engine) -> None:
    scores = engine.score(ID, PROMPTS, LABELS)
    assert len(scores) == len(PROMPTS)
    for found in scores:
        assert len(found.log_probabilities) == len(LABELS)
        assert math.isclose(sum(math.exp(nats) for nats in found.log_probabilities), 1.0, abs_tol=1e-4)
        assert found.prompt_tokens > 0
        assert found.latency_ms >= 0
    again = engine.score(ID, PROMPTS, LABELS)
    # Not to the last bit: which prompts share a step depends on which have arrived, and sums are rounded by their company.
    for first, second in zip(scores, again, strict=True):
        assert second.log_probabilities == pytest.approx(first.log_probabilities, abs=1e-4)


def test_a_prompt_scores_the_same_alone_and_in_company(engine: Engine) -> None:
    together = engine.score(ID, PROMPTS, LABELS)
    for prompt, found in zip(PROMPTS, together, strict=True):
        (alone,) = engine.score(ID, [prompt], LABELS)
        assert alone.log_probabilities == pytest.approx(found.log_probabilities, abs=1e-3)


def test_streamed_text_is_the_answer(engine: Engine) -> None:
    pieces: dict[int, str] = {0: "", 1: ""}

    def on_text(index: int, text: str) -> bool:
        pieces[index] += text
        return True

    answers = engine.generate(ID, PROMPTS[:2], Sampling(max_tokens=6), on_text)
    assert [pieces[0], pieces[1]] == [answer.text for answer in answers]
    assert all(0 < answer.completion_tokens <= 6 for answer in answers)
    assert [a.text for a in engine.generate(ID, PROMPTS[:2], Sampling(max_tokens=6))] == [a.text for a in answers]


def test_what_is_not_loaded_is_not_found(engine: Engine) -> None:
    other = digest_bytes(b"other")
    with pytest.raises(NotFound):
        engine.score(other, PROMPTS, LABELS)
    with pytest.raises(NotFound):
        engine.generate(other, PROMPTS, Sampling())
    engine.unload(other)
    assert engine.loaded() == (ID,)


def test_bad_prompts_and_labels_are_refused(engine: Engine) -> None:
    with pytest.raises(InvalidInput):
        engine.score(ID, PROMPTS, ("refund", ""))
    with pytest.raises(InvalidInput):
        engine.score(ID, [[Message(role="user", content="word " * 20_000)]], LABELS)


def test_texts_become_vectors_as_the_servable_reads_a_query(
    engine: Engine, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> None:
    index, finder = tmp_path_factory.mktemp("index"), digest_bytes(b"finder")
    encoder = "encoder" if type(engine) is MemoryEngine else str(request.getfixturevalue("encoder_folder"))
    entries = [Entry(id="a", text="lost cards are blocked", access=(EVERYONE,))]
    write_index(index, entries, np.ones((1, 64 if type(engine) is MemoryEngine else 384), dtype=np.float32))
    spec = Retrieval(what="documents", ways=("vectors",), count=3, index=ID)
    named: dict[str, Any] = {"id": finder, "tenant": "acme", "task": TaskKind.RANK, "base": "base", "adapter": None, "weights": None}
    local = LocalRetrieval(spec=spec, index=str(index), encoder=encoder)
    engine.load(Servable(**named, prompt=PromptSpec(instruction=""), retrieval=local))
    found = engine.embed(finder, ["my bank card was lost", "i lost my card", "the rent of this flat is high"])
    lost, card, flat = np.array(found.vectors)
    assert [np.linalg.norm(vector) for vector in (lost, card, flat)] == pytest.approx([1, 1, 1], abs=1e-4)
    assert lost @ card > lost @ flat
    assert found.prompt_tokens >= 16
    assert engine.embed(finder, ["i lost my card"]).vectors[0] == pytest.approx(found.vectors[1], abs=1e-4)
    with pytest.raises(InvalidInput):
        engine.embed(ID, ["a"])
    engine.unload(finder)
    with pytest.raises(NotFound):
        engine.embed(finder, ["a"])


def test_likelihoods_rank_answers_as_scores_do(engine: Engine) -> None:
    (scores,) = engine.score(ID, PROMPTS[:1], LABELS)
    found = engine.likelihood(ID, [PROMPTS[0]] * len(LABELS), LABELS)
    total = math.log(sum(math.exp(one.nats) for one in found))
    if type(engine) is not MemoryEngine:
        assert [one.nats - total for one in found] == pytest.approx(scores.log_probabilities, abs=1e-3)
    assert all(one.nats < 0 and one.tokens > 1 and one.divergence is None for one in found)
    (itself,) = engine.likelihood(ID, PROMPTS[:1], LABELS[:1], against=ID)
    assert itself.divergence == pytest.approx(0, abs=1e-6)
    with pytest.raises(NotFound):
        engine.likelihood(ID, PROMPTS[:1], LABELS[:1], against=digest_bytes(b"other"))
