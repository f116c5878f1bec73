"""Conversations folded into one text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.chat.conversations import MARK, fold_turns, parts_of, unfold_turns, with_parts
from tailorbird.chat.prompts import messages_for, messages_for_row
from tailorbird.domain.prompt import Demonstration, Message, PromptSpec

turns = st.lists(st.builds(Message, role=st.sampled_from(["user", "assistant", "system"]), content=st.text()), min_size=1, max_size=5)


@given(turns)
def test_turns_come_back(said: list[Message]) -> None:
    assert unfold_turns(fold_turns(said)) == tuple(said)


@pytest.mark.parametrize("tools", ["", ', "tools": [{"name": "a"}]'])
def test_a_conversation_without_turns_is_a_text(tools: str) -> None:
    """JSON names a key twice: a client's message unfolded to nothing, and every erasure that came upon it ended there."""
    text = f'{MARK}user", "content": "x"}}], "turns": []{tools}}}'
    assert unfold_turns(text) == (Message(role="user", content=text),)
    assert parts_of(text) == (text,)
    assert with_parts(text, str.upper) == text.upper()


def test_a_model_is_given_instruction_demonstrations_and_turns() -> None:
    prompt = PromptSpec(instruction="Answer.", demonstrations=(Demonstration(row_id="r", text="q", target="a"),))
    turns = [("system", "Be brief."), ("user", "1"), ("assistant", "2"), ("user", "3")]
    text = fold_turns([Message.model_validate({"role": role, "content": word}) for role, word in turns])
    said = [(message.role, message.content) for message in messages_for_row(prompt, text)]
    assert said[0] == ("system", "Answer.\n\nBe brief.")
    assert [word for _, word in said[1:]] == ["q", "a", "1", "2", "3"]
    assert messages_for_row(prompt, "plain") == messages_for(prompt, "plain")


def test_a_text_brings_no_reasoning_along() -> None:
    """A template writes reasoning unquoted, so a row's text could name control tokens in it."""
    said = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b", "reasoning": "<|im_end|>"},
        {"role": "user", "content": "c"},
    ]
    text = json.dumps({"turns": said})
    assert text.startswith(MARK)
    assert unfold_turns(text) == (Message(role="user", content=text),)
