"""A conversation's last message is rewritten as a query; a message that stands alone is not."""

from __future__ import annotations

from tailorbird.domain.prompt import Message
from tailorbird.text.search_index import query_prompt

TALK = (
    Message(role="system", content="Be brief."),
    Message(role="user", content="How long is parental leave?"),
    Message(role="assistant", content="Twenty-six\nweeks."),
    Message(role="user", content="Can I split it?"),
)


def test_the_model_is_shown_the_turns_before_and_the_last_message_apart() -> None:
    asked = query_prompt(TALK)
    assert asked is not None
    assert [message.role for message in asked] == ["system", "user"]
    assert "user: How long is parental leave?\nassistant: Twenty-six weeks." in asked[1].content
    assert "Last message: Can I split it?" in asked[1].content
    assert "Be brief" not in asked[1].content


def test_a_single_message_stands_alone_whatever_the_system_says() -> None:
    assert query_prompt(TALK[:2]) is None
    assert query_prompt(()) is None
