"""What a model reasons is no part of its answer, however it begins and ends."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support.chat_families import FAMILIES, FRAMED, write_family
from tailorbird.chat.tokenizer import ChatTokenizer
from tailorbird.domain.prompt import Sampling
from tailorbird.inference import jobs
from tailorbird.inference.jobs import GenerationFormat, GenerationJob
from tailorbird.inference.text.decoding import RowSampler, SampledToken
from tailorbird.ports.engine import Chunk

SWITCHED, BEGUN, CHANNELS = "reasoning that is switched", "reasoning that is begun", "channels"
UNCLOSED, THOUGHTS = "turns that are not closed", "thoughts in the prompt alone"
ANALYSIS, FINAL = "<|channel|>analysis<|message|>", "<|channel|>final<|message|>"


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ChatTokenizer]:
    names = ("chatml", SWITCHED, BEGUN, CHANNELS, UNCLOSED, THOUGHTS)
    folders: dict[str, Path] = {name: write_family((FAMILIES | FRAMED)[name], tmp_path_factory.mktemp("family") / "base") for name in names}
    return {name: ChatTokenizer(folder, thinking=True) for name, folder in folders.items()}


def written(
    chat: ChatTokenizer, text: str, *, max_tokens: int = 99, stop: tuple[str, ...] = (), constraint: Any = None
) -> tuple[list[Chunk], GenerationJob]:
    """The pieces of an answer for which the model writes ``text``."""
    told: list[Chunk] = []
    sequence: Any = SimpleNamespace(tokens=[], prompt=0, cached=0)
    holding: Any = SimpleNamespace(end=lambda: True, live=True)
    drawer = RowSampler(Sampling(max_tokens=max_tokens, stop=stop, logprobs=0), constraint=constraint)
    job = GenerationJob(sequence, GenerationFormat(chat, drawer, 5000), holding, lambda chunk: told.append(chunk) or True)
    for token in chat.tokenizer.encode(text, add_special_tokens=False).ids:
        job.choose(SampledToken(token, -0.5))
        if told and told[-1].finish_reason:
            break
    return told, job


@pytest.mark.parametrize(
    ("name", "text", "answer"),
    [
        (SWITCHED, "<think>\nhm, é\n</think>\n\nYes. 漢<|im_end|>", "Yes. 漢"),
        (SWITCHED, "Yes, at once.<|im_end|>", "Yes, at once."),
        (SWITCHED, "<think>\nand on and on<|im_end|>", ""),
        (BEGUN, "hm\n</think>\n\nYes.<|im_end|>", "Yes."),
        ("chatml", "<think>hm</think>\nYes, <b>é</b>.<|im_end|>", "Yes, <b>é</b>."),
        ("chatml", "<thin", "<thin"),
        (CHANNELS, f"{ANALYSIS}hm<|end|><|start|>assistant{FINAL}Yes.<|return|>", "Yes."),
        (UNCLOSED, "\n<think>hm</think>\nYes.<|user|>", "Yes."),
        (THOUGHTS, "<|channel>thought\nhm\n<channel|>Yes.<turn|>", "Yes."),
    ],
)
def test_the_answer_is_what_follows_reasoning(name: str, text: str, answer: str, chats: dict[str, ChatTokenizer]) -> None:
    told, job = written(chats[name], text)
    if not told or told[-1].finish_reason is None:  # the model has not ended
        job.choose(SampledToken(chats[name].end_of_turn[-1], -0.5))
    assert "".join(chunk.text for chunk in told) == answer
    assert told[-1].finish_reason == "stop"
    tokens = [one for chunk in told for one in chunk.logprobs]
    said = b"".join(bytes(one.bytes) for one in tokens).decode(errors="replace")
    assert "hm" not in said
    assert told[-1].completion_tokens == len(chats[name].tokenizer.encode(text, add_special_tokens=False).ids) + (text == "<thin")


def test_max_tokens_counts_the_answer_and_reasoning_has_room_of_its_own(
    chats: dict[str, ChatTokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "<think>" + "hm " * 30 + "</think>\n\n" + "Yes " * 30 + "<|im_end|>"
    told, _ = written(chats[SWITCHED], text, max_tokens=3)
    assert told[-1].finish_reason == "length"
    assert "".join(chunk.text for chunk in told).startswith("Y")
    monkeypatch.setattr(jobs, "REASONING_TOKENS", 10)
    told, _ = written(chats[SWITCHED], text, max_tokens=3)
    assert ([chunk.text for chunk in told], told[-1].finish_reason, told[-1].completion_tokens) == ([""], "length", 10)


def test_stop_strings_and_grammars_are_about_the_answer(chats: dict[str, ChatTokenizer]) -> None:
    told, job = written(chats[SWITCHED], "<think>\nNo. STOP\n</think>\n\nYes. STOP here<|im_end|>", stop=("STOP",))
    assert "".join(chunk.text for chunk in told) == "Yes. "
    _, job = written(chats[SWITCHED], "<think>\nhm")
    assert job.drawer is not None
    assert job.drawer.waits
    _, job = written(chats[SWITCHED], "<think>\nhm</think>")
    assert job.drawer is not None
    assert not job.drawer.waits


def test_under_a_grammar_reasoning_is_begun_for_the_model(chats: dict[str, ChatTokenizer]) -> None:
    """Were it left to the model, an answer at once would be known as one when its first token had been drawn without the grammar."""
    for name in (SWITCHED, UNCLOSED):
        chat = chats[name]
        assert chat.tokenizer.decode(chat.reasoning_begun(), skip_special_tokens=False) == "<think>"
    assert chats[BEGUN].reasoning_begun() == []
    told, job = written(chats[SWITCHED], '{"a": 1}', constraint=object())
    assert (told, job.drawer is not None and job.drawer.waits) == ([], True)
    told, job = written(chats[SWITCHED], "hm\n</think>\n\n{", constraint=object())
    assert "".join(chunk.text for chunk in told) == "{"
    assert job.drawer is not None
    assert not job.drawer.waits
