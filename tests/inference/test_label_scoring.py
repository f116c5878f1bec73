"""Scores equal one sequence per label, whatever is shared, padded, batched or kept."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from support.oracle import LABELS, TEXTS, MakeModel, Reference, conversation, servable, write_adapter
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.prompt import Message
from tailorbird.inference import open_engine


def close(found: object, expected: list[float], tolerance: float = 1e-4) -> bool:
    return found == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen2"])
def test_equal_to_one_sequence_per_label(model_type: str, make_model: MakeModel) -> None:
    folder = make_model(model_type)
    engine, reference = open_engine("fp32"), Reference(folder)
    engine.load(servable(folder))
    prompts = [conversation(text) for text in TEXTS]
    scores = engine.score(servable(folder).id, prompts, LABELS)
    for prompt, score in zip(prompts, scores, strict=True):
        assert close(score.log_probabilities, reference.score(prompt, LABELS))
        assert score.prompt_tokens == len(reference.prompt(prompt))
        assert math.fsum(math.exp(value) for value in score.log_probabilities) == pytest.approx(1, abs=1e-5)
        assert score.latency_ms > 0


def test_equal_with_biases_a_tied_head_and_narrow_heads(make_model: MakeModel) -> None:
    folder = make_model("llama", attention_bias=True, mlp_bias=True, tie_word_embeddings=True, head_dim=16)
    engine = open_engine("fp32")
    engine.load(servable(folder))
    [score] = engine.score(servable(folder).id, [conversation("hello")], LABELS)
    assert close(score.log_probabilities, Reference(folder).score(conversation("hello"), LABELS))


def test_equal_again_from_kept_prefixes(tiny: Path) -> None:
    engine, reference = open_engine("fp32"), Reference(tiny)
    engine.load(servable(tiny))
    turns = conversation(TEXTS[0])
    dialogue = [*turns, Message(role="assistant", content="card"), Message(role="user", content="and now?")]
    for prompt in (turns, conversation(TEXTS[1]), dialogue, turns, conversation(TEXTS[2], "Name the intent, briefly.")):
        [score] = engine.score(servable(tiny).id, [prompt], LABELS)
        assert close(score.log_probabilities, reference.score(prompt, LABELS))


def test_adapters_and_full_weights_on_one_base(tiny: Path, make_model: MakeModel, tmp_path: Path) -> None:
    peft_model = write_adapter(tiny, tmp_path / "adapter")
    other = make_model("llama", seed=7)
    engine = open_engine("fp32")
    servables = {
        "base": (servable(tiny, "base"), Reference(tiny)),
        "adapter": (servable(tiny, "adapter", adapter=tmp_path / "adapter"), Reference(tiny, peft_model)),
        "weights": (servable(tiny, "weights", weights=other), Reference(other)),
    }
    for wanted, _ in servables.values():
        engine.load(wanted)
    prompts = [conversation(text) for text in TEXTS[:2]]
    expected = {name: [reference.score(prompt, LABELS) for prompt in prompts] for name, (_, reference) in servables.items()}
    assert not close(expected["base"][0], expected["adapter"][0], 0.01)
    for _ in range(2):
        for name, (wanted, _) in servables.items():
            for score, values in zip(engine.score(wanted.id, prompts, LABELS), expected[name], strict=True):
                assert close(score.log_probabilities, values)


def test_labels_that_cannot_be_scored(tiny: Path) -> None:
    engine = open_engine("fp32")
    engine.load(servable(tiny))
    for labels, code in (((), "invalid_input"), (("a", ""), "label_empty"), (("a", "b", "a"), "invalid_input")):
        with pytest.raises(InvalidInput) as caught:
            engine.score(servable(tiny).id, [conversation("hello")], labels)
        assert caught.value.error_code == code
