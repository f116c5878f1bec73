"""Filter of tool calls: words pass as they come, calls are held back, and what is none is said after all."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.chat_families import TOOL_FAMILIES, write_family
from support.tools import TOOLS
from tailorbird.chat.conversations import fold_answer
from tailorbird.chat.tokenizer import ChatTokenizer
from tailorbird.chat.tool_calls import tools_text
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.prompt import Message, ToolCall
from tailorbird.inference.text.decoding import Grammars, TextStream, ToolCallFilter

TEXT = tools_text(TOOLS)
ASKED = (Message(role="user", content="Where is order 7?", tools=TEXT),)
CALL = ToolCall(id="call00000", name="get_order", arguments='{"id": "7"}')
NAMES = [name for name in TOOL_FAMILIES if name != "arguments that are not JSON"]


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ChatTokenizer]:
    folder: Path = tmp_path_factory.mktemp("families")
    return {name: ChatTokenizer(write_family(family, folder / str(at))) for at, (name, family) in enumerate(TOOL_FAMILIES.items())}


def written(chat: ChatTokenizer, answer: str) -> list[int]:
    """The tokens of an answer without its end."""
    [ids] = chat.answers_to([ASKED], [("", answer)])
    return [token for token in ids if token not in chat.stops]


def streamed(chat: ChatTokenizer, tokens: list[int]) -> tuple[list[str], str, tuple[ToolCall, ...]]:
    """What is shown token by token, what at the end, and the calls."""
    parser = chat.tools.parser(TEXT)
    assert parser is not None
    stream = TextStream(chat.tokenizer, (), None, ToolCallFilter(parser, chat.tools.call_marks))
    shown = [stream.feed(token) for token in tokens]
    return shown, stream.finish(), stream.tool_calls


@pytest.mark.parametrize("name", NAMES)
def test_a_call_is_told_and_not_shown(name: str, chats: dict[str, ChatTokenizer]) -> None:
    chat = chats[name]
    shown, last, calls = streamed(chat, written(chat, fold_answer(Message(role="assistant", content="", tool_calls=(CALL,)))))
    assert calls == (CALL,)
    assert "".join(shown) + last == ""


@pytest.mark.parametrize("name", NAMES)
def test_words_pass_as_they_come(name: str, chats: dict[str, ChatTokenizer]) -> None:
    chat = chats[name]
    shown, last, calls = streamed(chat, written(chat, "It was sent, [see] the <b>letter</b> {7}."))
    assert calls == ()
    assert ("".join(shown) + last).strip() == "It was sent, [see] the <b>letter</b> {7}."
    assert len([text for text in shown if text]) > 5


@pytest.mark.parametrize("name", NAMES)
def test_a_call_that_must_come_is_held_to_by_a_grammar(name: str, chats: dict[str, ChatTokenizer]) -> None:
    torch = pytest.importorskip("torch")
    chat = chats[name]
    tokens = written(chat, fold_answer(Message(role="assistant", content="", tool_calls=(CALL,))))
    for choice, fits in (("required", True), ("get_order", True), ("get_invoice", False)):
        grammar = chat.tools.grammar(TEXT, choice)
        assert grammar is not None
        constraint = Grammars(chat.tokenizer, chat.stops).call_constraint(grammar)
        allowed = True
        for token in [*tokens, chat.end_of_turn[-1]]:
            mask = constraint.mask(torch.zeros(chat.tokenizer.get_vocab_size()))
            allowed = bool(mask[token] == 0)
            if not allowed:
                break
            constraint.take(token)
        assert allowed == fits


def test_a_schema_of_a_tool_that_cannot_be_followed_is_told_as_the_tools(chats: dict[str, ChatTokenizer]) -> None:
    """It was told as a fault of ``response_format``, which the request does not have."""
    chat = chats["calls between marks"]
    grammar = chat.tools.grammar(tools_text([{"name": "get_order", "parameters": {"properties": {"id": {"type": "no such"}}}}]), "required")
    assert grammar is not None
    with pytest.raises(InvalidInput) as refused:
        Grammars(chat.tokenizer, chat.stops).call_constraint(grammar)
    assert (refused.value.error_code, refused.value.param) == ("schema_invalid", "tools")
