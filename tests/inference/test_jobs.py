"""The pieces in which an answer is told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from support.chat_families import FAMILIES, write_family
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
