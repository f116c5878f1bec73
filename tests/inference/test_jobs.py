"""The pieces in which an answer is told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support.chat_families import FAMILIES, FRAMED, write_family
from tailorbird.chat.tokenizer import ChatTokenizer
from tailorbird.domain.prompt import Sampling
from tailorbird.inference.jobs import GenerationFormat, GenerationJob
from tailorbird.inference.text.decoding import RowSampler, SampledToken
from tailorbird.ports.engine import Chunk

TEXT = "Yes. 漢字 " * 30


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> ChatTokenizer:
    return ChatTokenizer(write_family(FAMILIES["chatml"], tmp_path_factory.mktemp("family") / "base"))


def told(chat: ChatTokenizer, text: str = TEXT, *, gone_after: int = 10**6, **sampling: Any) -> list[Chunk]:
    """The pieces of an answer for which the model writes ``text``, to a caller who wants no more after some."""
    pieces: list[Chunk] = []
    sequence: Any = SimpleNamespace(tokens=[], prompt=0, cached=0)
    holding: Any = SimpleNamespace(end=lambda: True, live=True)
    drawer = RowSampler(Sampling(logprobs=0, **sampling))

    def tell(piece: Chunk) -> bool:
        pieces.append(piece)
        return len(pieces) < gone_after

    job = GenerationJob(sequence, GenerationFormat(chat, drawer, 5000), holding, tell)
    for token in [*chat.tokenizer.encode(text, add_special_tokens=False).ids, chat.end_of_turn[-1]]:
        job.choose(SampledToken(token, -0.5))
        if pieces and pieces[-1].finish_reason:
            break
    return pieces


@pytest.mark.parametrize("limits", [{"max_tokens": 40}, {"max_tokens": 5000}, {"max_tokens": 5000, "stop": ("字 Yes. 漢字 Y",)}])
def test_an_answer_in_few_pieces_says_the_same(limits: dict[str, Any], chat: ChatTokenizer) -> None:
    each, few = told(chat, **limits), told(chat, whole=True, **limits)
    assert "".join(piece.text for piece in few) == "".join(piece.text for piece in each)
    assert [one for piece in few for one in piece.logprobs] == [one for piece in each for one in piece.logprobs]
    for name in ("finish_reason", "completion_tokens", "reasoning_tokens"):
        assert getattr(few[-1], name) == getattr(each[-1], name)


def test_the_pieces_are_few_and_count_their_tokens(chat: ChatTokenizer) -> None:
    counts = [piece.completion_tokens for piece in told(chat, max_tokens=5000, whole=True)]
    assert counts == [*range(1, counts[-1], 8), counts[-1]]
    assert {piece.completion_tokens for piece in told(chat, max_tokens=5000)[:-1]} == {0}


def test_reasoning_is_counted_while_it_lasts_and_not_told(tmp_path: Path) -> None:
    """Who leaves before the answer begins is charged for what was written until then."""
    chat = ChatTokenizer(write_family((FAMILIES | FRAMED)["reasoning that is switched"], tmp_path / "base"), thinking=True)
    thought = "<think>\n" + "hm " * 40 + "\n</think>"
    pieces = told(chat, thought + "\n\nYes.", max_tokens=5000, whole=True)
    begun = next(at for at, piece in enumerate(pieces) if piece.text)
    assert [piece.completion_tokens for piece in pieces[:begun]] == list(range(1, 8 * begun, 8))
    assert begun >= len(chat.tokenizer.encode(thought, add_special_tokens=False).ids) // 8
    assert "".join(piece.text for piece in pieces) == "Yes."
    assert b"hm" not in b"".join(bytes(one.bytes) for piece in pieces for one in piece.logprobs)


def test_who_wants_no_more_is_told_no_more(chat: ChatTokenizer) -> None:
    pieces = told(chat, max_tokens=5000, whole=True, gone_after=2)
    assert [piece.finish_reason for piece in pieces] == [None, None, "stop"]
