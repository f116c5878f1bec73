"""Each known template lays conversations out, and ends every answer with a token of the model."""

from __future__ import annotations

import pytest

from tailorbird.chat.templates import TEMPLATES, is_known, render_here, template_name
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.prompt import Message

ASKED = (Message(role="system", content="Be brief."), Message(role="user", content="the one?"))
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_later_turn_repeats_what_was_asked(name: str) -> None:
    template = TEMPLATES[name]
    assert is_known(template)
    assert not is_known(template + " ")
    assert template_name(digest_bytes(template.encode())) == name
    first = render_here(template, ASKED, SPECIAL)
    later = render_here(template, (*ASKED, Message(role="assistant", content="yes"), *ASKED[1:]), SPECIAL)
    assert later.startswith(f"{first}yes")
    assert all(message.content in first for message in ASKED)
