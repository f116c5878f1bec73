"""One chat tokenizer for every family: where an answer ends, what is control and what is text, compared with transformers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from support.chat_families import FAMILIES, Family, write_family
from tailorbird.chat.conversations import fold_turns
from tailorbird.chat.prompts import messages_for_row
from tailorbird.chat.templates import render
from tailorbird.chat.tokenizer import ChatTokenizer
from tailorbird.domain.errors import ModelInvalid
from tailorbird.domain.prompt import Message, PromptSpec
from tailorbird.ports.trainer import Example
from tailorbird.training.batches import RowTokenizer

PROMPT = PromptSpec(instruction="Classify the message.", labels=("card_lost", "refund"), list_labels=True)
ANSWERS = ("card_lost", "Not yet, sorry.\nTomorrow, then.", "top-up")
MakeFamily = Callable[[Family], Path]


@pytest.fixture
def folder_of(tmp_path: Path) -> MakeFamily:
    return lambda family: write_family(family, tmp_path / "base")


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, ChatTokenizer]]:
    folders = {name: write_family(family, tmp_path_factory.mktemp("family") / "base") for name, family in FAMILIES.items()}
    return {name: (folder, ChatTokenizer(folder)) for name, folder in folders.items()}


def said(*contents: str) -> list[Message]:
    """A system turn, then user and assistant in turn."""
    roles = ["system", *["user", "assistant"] * len(contents)]
    return [Message.model_validate({"role": role, "content": content}) for role, content in zip(roles, contents, strict=False)]


def names(chat: ChatTokenizer, ids: list[int] | tuple[int, ...]) -> list[str | None]:
    return [chat.tokenizer.id_to_token(token) for token in ids]


@pytest.mark.parametrize("name", FAMILIES)
def test_an_answer_ends_as_the_template_ends_it(name: str, chats: dict[str, tuple[Path, ChatTokenizer]]) -> None:
    _, chat = chats[name]
    family = FAMILIES[name]
    assert names(chat, chat.end_of_turn) == list(family.end)
    assert set(names(chat, tuple(chat.stops))) == {family.end[-1], *family.declared, family.named["eos_token"]}
    assert chat.end_of_turn[-1] in chat.stops
    for answer in chat.answers(ANSWERS):
        assert tuple(answer[-len(chat.end_of_turn) :]) == chat.end_of_turn
        assert chat.stops.isdisjoint(answer[:-1])
        assert not chat.is_empty(answer)
    assert chat.is_empty(chat.answers([""])[0])


@pytest.mark.parametrize("name", FAMILIES)
def test_the_same_conversation_is_learned_and_served(name: str, chats: dict[str, tuple[Path, ChatTokenizer]]) -> None:
    """Prompt and answer, with the end of the turn, of single questions and of every turn of a conversation."""
    folder, chat = chats[name]
    talk = said("Be brief.", "Where is my card?", "It left on Monday.", "By train?")
    asked = [Example(text="Where is my card?", target=answer) for answer in ANSWERS]
    asked += [Example(text=fold_turns(talk), target=answer, every_turn=every) for answer in ANSWERS for every in (False, True)]
    rows = RowTokenizer(folder).encode(PROMPT, asked)
    served = {
        (*prompt, *answer)
        for example in asked
        for prompt in chat.prompts([messages_for_row(PROMPT, example.text), messages_for_row(PROMPT, fold_turns(talk[:2]))])
        for answer in chat.answers([example.target, "It left on Monday."])
    }
    for row in rows:
        for start, end in row.spans:
            assert row.ids[:end] in served
            assert row.ids[start:end] in {tuple(answer) for answer in chat.answers([*ANSWERS, "It left on Monday."])}


# Of the Unigram family control tokens are matched before the text is normalised, which transformers does not do.
@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "unigram"])
def test_transformers_reads_prompts_and_ends_alike(name: str, chats: dict[str, tuple[Path, ChatTokenizer]]) -> None:
    folder, chat = chats[name]
    stock: Any = AutoTokenizer.from_pretrained(folder)
    talk = said("Be brief.", "Where is my card?", "It left on Monday.", "By train? naïve 漢")
    text = render(chat.template, talk, chat.special)
    plain = [message.model_dump() for message in talk]
    assert stock.apply_chat_template(plain, add_generation_prompt=True, tokenize=False) == text
    assert chat.prompts([talk]) == [stock(chat.opening.of(text), add_special_tokens=False)["input_ids"]]
    assert (chat.opening.of(text) == text) is (name != "last answer left open"), "whose answers begin on a line of their own"
    whole = stock(text.replace("It left on Monday.", ""), add_special_tokens=False)["input_ids"]
    assert chat.end_of_turn[-1] in whole


@pytest.mark.parametrize("name", FAMILIES)
def test_text_never_becomes_a_control_token(name: str, chats: dict[str, tuple[Path, ChatTokenizer]]) -> None:
    _, chat = chats[name]
    control = {chat.tokenizer.token_to_id(token) for token in chat.control} - {chat.tokenizer.token_to_id("<unk>")}
    plain = said("Be brief.", "x", "x", "x")
    frame = [token for token in chat.prompts([plain])[0] if token in control]
    for token in chat.control:
        for spelled in (token, f"a{token}b", token * 2, token.upper(), token.replace("<", "＜").replace(">", "＞"), f"\n{token}\n"):
            forged = said(spelled, spelled, spelled, spelled)
            [ids] = chat.prompts([forged])
            assert [each for each in ids if each in control] == frame, spelled
            [answer] = chat.answers([spelled])
            assert control.isdisjoint(answer[: -len(chat.end_of_turn)]), spelled


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
    ],
)
@pytest.mark.parametrize("content", ["{", "[" * 100_000])
def test_a_configuration_that_cannot_be_read_is_a_model_error(name: str, content: str, folder_of: MakeFamily) -> None:
    folder = folder_of(FAMILIES["chatml"])
    (folder / name).write_text(content)
    with pytest.raises(ModelInvalid) as caught:
        ChatTokenizer(folder)
    assert caught.value.error_code == "model_config"


def test_a_template_that_puts_the_next_turn_after_an_open_answer_is_refused(folder_of: MakeFamily) -> None:
    """The next token that is special begins a turn: an answer would learn to ask the next question."""
    template = "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '\n' }}{% endfor %}<|assistant|>\n"
    with pytest.raises(ModelInvalid) as caught:
        ChatTokenizer(folder_of(replace(FAMILIES["last answer left open"], template=template)))
    assert caught.value.error_code == "chat_template"
