"""Tool calls by the template's own rendering: what is read, what is learned, what is told from a text, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from support.chat_families import CHATML, FAMILIES, HERMES, TOOL_FAMILIES, write_family
from support.tools import CHAT, TOOLS
from tailorbird.chat.conversations import answer_turn, fold_answer
from tailorbird.chat.prompts import messages_for_row
from tailorbird.chat.templates import render
from tailorbird.chat.tool_calls import arguments_text, tools_text
from tailorbird.data.readers.cells import answered
from tailorbird.data.readers.data_file import Record
from tailorbird.domain.errors import ModelInvalid
from tailorbird.domain.prompt import Message, PromptSpec, ToolCall
from tailorbird.ports.trainer import Example
from tailorbird.training.batches import RowTokenizer, TokenizedRow

PROMPT = PromptSpec(instruction="Be brief.")
JSON = [name for name in TOOL_FAMILIES if name != "arguments that are not JSON"]


def answer_text(chat: RowTokenizer, messages: Sequence[Message], answer: str) -> str:
    """What is learned of an answer, as text; of a call as far as the template writes it."""
    return "".join(piece.text for piece in chat._answer(messages, "", answer).pieces)


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RowTokenizer]:
    folder = tmp_path_factory.mktemp("families")
    return {name: RowTokenizer(write_family(family, folder / str(at))) for at, (name, family) in enumerate(TOOL_FAMILIES.items())}


@cache
def row() -> tuple[str, str]:
    return answered(Record(line=1, cells={"chat": CHAT, "tools": TOOLS}), "chat", "tools")


def learned(chat: RowTokenizer, rows: list[TokenizedRow]) -> list[str]:
    return [chat.tokenizer.decode(list(each.ids[start:end]), skip_special_tokens=False) for each in rows for start, end in each.spans]


LEARNED = {
    "calls between marks": (
        '<tool_call>\n{"name": "get_order", "arguments": {"id": "7"}}\n</tool_call><|im_end|>',
        "It was sent.<|im_end|>",
        '<tool_call>\n{"name": "get_order", "arguments": {"id": "8", "deep": {"a": [1, true, null]}}}\n</tool_call><|im_end|>',
    ),
    "calls as bare JSON": (
        '{"name": "get_order", "parameters": {"id": "7"}}<|eot_id|>',
        "It was sent.<|eot_id|>",
        '{"name": "get_order", "parameters": {"id": "8", "deep": {"a": [1, true, null]}}}<|eot_id|>',
    ),
    "calls behind a control token": (
        '[TOOL_CALLS] [{"name": "get_order", "arguments": {"id": "7"}, "id": "call00000"}]</s>',
        "It was sent.</s>",
        '[TOOL_CALLS] [{"name": "get_order", "arguments": {"id": "8", "deep": {"a": [1, true, null]}}, "id": "call00000"}]</s>',
    ),
    "calls in a channel": (
        ' to=functions.get_order<|channel|>commentary json<|message|>{"id": "7"}<|call|>',
        "<|channel|>final<|message|>It was sent.<|return|>",
        ' to=functions.get_order<|channel|>commentary json<|message|>{"id": "8", "deep": {"a": [1, true, null]}}<|call|>',
    ),
    "arguments that are not JSON": (
        "<tool_call>\n<function=get_order>\n<parameter=id>\n7\n</parameter>\n</function>\n</tool_call><|im_end|>",
        "It was sent.<|im_end|>",
        '<tool_call>\n<function=get_order>\n<parameter=id>\n8\n</parameter>\n<parameter=deep>\n{"a": [1, true, null]}\n</parameter>\n'
        "</function>\n</tool_call><|im_end|>",
    ),
}


@pytest.mark.parametrize("name", TOOL_FAMILIES)
def test_calls_are_learned_as_the_template_writes_them_and_results_are_not(name: str, chats: dict[str, RowTokenizer]) -> None:
    text, target = row()
    chat = chats[name]
    said = learned(chat, chat.encode(PROMPT, [Example(text=text, target=target, every_turn=True)]))
    assert tuple(part.removeprefix(" ") if name == "calls behind a control token" else part for part in said) == LEARNED[name]
    (last,) = chat.encode(PROMPT, [Example(text=text, target=target)])
    assert learned(chat, [last])[-1] == said[-1]
    read = chat.tokenizer.decode(list(last.ids[: last.prompt]), skip_special_tokens=False)
    assert "get_invoice" in read
    assert "state" in read


@pytest.mark.parametrize("name", TOOL_FAMILIES)
def test_the_template_lays_the_whole_conversation_out_byte_for_byte_like_that(name: str, chats: dict[str, RowTokenizer]) -> None:
    """The mask is proven: prompt and call together are what the template makes of the conversation with its call."""
    text, target = row()
    chat = chats[name]
    messages = chat.turns(messages_for_row(PROMPT, text))
    whole = render(chat.template, [*messages, answer_turn(target)], chat.variables, chat.tools.frames.call_mode())
    if name == "calls behind a control token":  # what the system says stands in the last message of all: the prompt is what is served
        whole = whole.replace("[INST] And", "[INST] Be brief.\n\nAnd") if "[INST] Be brief.\n\nAnd" in chat.prompt_text(messages) else whole
    assert whole == chat.prompt_text(messages) + answer_text(chat, messages, target)


@pytest.mark.parametrize("name", JSON)
def test_a_call_that_is_written_is_told_from_the_text(name: str, chats: dict[str, RowTokenizer]) -> None:
    chat = chats[name]
    parser = chat.tools.parser(tools_text(TOOLS))
    assert parser is not None
    messages = messages_for_row(PROMPT, row()[0])
    for arguments in ('{"id": "8"}', "{}", '{"id": "}\\n</tool_call>", "n": {"x": [1.5, null]}}'):
        made = ToolCall(id="call00000", name="get_order", arguments=arguments_text(arguments))
        text = answer_text(chat, messages, fold_answer(Message(role="assistant", content="", tool_calls=(made,))))
        written = next(text.partition(end)[0] for end in ("<|im_end|>", "<|eot_id|>", "</s>", "<|call|>") if end in text)
        assert parser.parse(written) == (made,)
        assert parser.parse(written.replace("get_order", "get_secret")) == ()
        assert parser.parse(written.replace('": ', '" :  ')) == (made,)
        assert parser.parse(written[:-6] + "and so on") == ()


@pytest.mark.parametrize("name", ["calls between marks", "calls behind a control token"])
def test_parallel_calls_are_told_apart(name: str, chats: dict[str, RowTokenizer]) -> None:
    chat = chats[name]
    made = tuple(
        ToolCall(id=f"call{place:05d}", name=tool, arguments='{"id": "8"}') for place, tool in enumerate(("get_invoice", "get_order"))
    )
    text = answer_text(chat, messages_for_row(PROMPT, row()[0]), fold_answer(Message(role="assistant", content="", tool_calls=made)))
    parser = chat.tools.parser(tools_text(TOOLS))
    assert parser is not None
    assert parser.parse(text.partition("<|im_end|>")[0].partition("</s>")[0]) == made


@pytest.mark.parametrize(
    ("template", "what"),
    [
        (CHATML, "definitions"),
        (HERMES.replace("message.tool_calls %}{% if call.function", "[] %}{% if call.function"), "calls"),
        (HERMES.replace("{% elif message.role == 'tool' %}", "{% elif message.role == 'never' %}"), "results"),
        (HERMES.replace("{% if tools %}", "{% if tools %}{{ raise_exception('no tools') }}"), "refuses"),
    ],
)
def test_a_template_that_leaves_tools_out_is_refused(tmp_path: Path, template: str, what: str) -> None:
    chat = RowTokenizer(write_family(replace(FAMILIES["chatml"], template=template), tmp_path / "base"))
    text, target = row()
    with pytest.raises(ModelInvalid, match=what) as caught:
        chat.encode(PROMPT, [Example(text=text, target=target)])
    assert caught.value.error_code == "chat_template"
    assert chat.encode(PROMPT, [Example(text="hello", target="good day")])


@pytest.mark.parametrize("name", TOOL_FAMILIES)
def test_no_text_of_a_tool_brings_a_control_token_along(name: str, chats: dict[str, RowTokenizer]) -> None:
    chat = chats[name]
    forged = " ".join(chat.tools.control)

    def marks(said: str) -> list[int]:
        turns = [
            {"role": "user", "content": f"Where {said}"},
            {"role": "assistant", "tool_calls": [{"function": {"name": "get_order", "arguments": {said: [said]}}}]},
            {"role": "tool", "content": f"sent {said}"},
            {"role": "assistant", "tool_calls": [{"function": {"name": "get_order", "arguments": {"id": said}}}]},
        ]
        tools = [{**TOOLS[0]["function"], "description": f"Looks {said} up."}]
        text, target = answered(Record(line=1, cells={"chat": turns, "tools": tools}), "chat", "tools")
        (encoded,) = chat.encode(PROMPT, [Example(text=text, target=target)])
        control = {chat.tokenizer.token_to_id(each) for each in chat.tools.control}
        return [token for token in encoded.ids if token in control]

    assert marks(forged) == marks("plainly")
