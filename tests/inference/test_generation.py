"""Generation equals transformers' own, alone and in a batch; streams are whole; stops stop."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.oracle import TEXTS, MakeModel, Reference, conversation, servable
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.prompt import Sampling
from tailorbird.inference import open_engine

GREEDY = Sampling(max_tokens=12)


def texts_of(reference: Reference, max_tokens: int) -> list[tuple[str, int]]:
    """What transformers answers to each text, and in how many tokens."""
    answers = [reference.generate(conversation(text), max_tokens) for text in TEXTS]
    return [(reference.tokenizer.decode(answer, skip_special_tokens=True), len(answer)) for answer in answers]


@pytest.mark.parametrize("model_type", ["llama", "qwen3"])
def test_equal_to_transformers_alone_and_in_a_batch(model_type: str, make_model: MakeModel) -> None:
    folder = make_model(model_type)
    engine = open_engine("fp32")
    engine.load(servable(folder))
    expected = texts_of(Reference(folder), 12)
    prompts = [conversation(text) for text in TEXTS]
    together = engine.generate(servable(folder).id, prompts, GREEDY)
    alone = [engine.generate(servable(folder).id, [prompt], GREEDY)[0] for prompt in prompts]
    for answers in (together, alone):
        assert [(answer.text.rstrip("�"), answer.completion_tokens) for answer in answers] == [(t.rstrip("�"), n) for t, n in expected]
    assert all(answer.latency_ms > 0 for answer in together)


def test_what_is_streamed_is_what_is_answered(tiny: Path) -> None:
    engine = open_engine("fp32")
    engine.load(servable(tiny))
    pieces: dict[int, str] = {}

    def show(row: int, text: str) -> bool:
        pieces[row] = pieces.get(row, "") + text
        return True

    answers = engine.generate(servable(tiny).id, [conversation(text) for text in TEXTS], GREEDY, show)
    assert [pieces[row] for row in range(len(TEXTS))] == [answer.text for answer in answers]
    assert {answer.finish_reason for answer in answers} == {"length"}


def test_a_stop_string_ends_an_answer_and_is_not_shown(tiny: Path) -> None:
    engine = open_engine("fp32")
    engine.load(servable(tiny))
    [whole] = engine.generate(servable(tiny).id, [conversation("hello")], GREEDY)
    stop = whole.text[len(whole.text) // 2 :][:4]
    [cut] = engine.generate(servable(tiny).id, [conversation("hello")], Sampling(max_tokens=12, stop=(stop,)))
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish_reason == "stop"


def test_sampling_follows_the_seed_and_not_the_batch(tiny: Path) -> None:
    engine = open_engine("fp32")
    engine.load(servable(tiny))
    drawn = Sampling(max_tokens=8, temperature=1.0, seed=3)
    same = [conversation("hello")] * 3
    first = engine.generate(servable(tiny).id, same, drawn)
    again = engine.generate(servable(tiny).id, same[:1], drawn)
    other = engine.generate(servable(tiny).id, same[:1], drawn.model_copy(update={"seed": 99}))
    assert first[0].text == again[0].text
    assert first[0].text != other[0].text
    assert len({answer.text for answer in first}) == 3


def test_the_context_bounds_an_answer(tiny: Path) -> None:
    engine = open_engine("fp32")
    engine.load(servable(tiny))
    prompt = conversation("word " * 440)
    [answer] = engine.generate(servable(tiny).id, [prompt], Sampling(max_tokens=400))
    assert answer.prompt_tokens + answer.completion_tokens <= 512
    with pytest.raises(InvalidInput) as caught:
        engine.generate(servable(tiny).id, [conversation("word " * 600)], GREEDY)
    assert caught.value.error_code == "prompt_too_long"
