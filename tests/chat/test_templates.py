"""Chat templates of strangers are rendered by a confined process; none takes memory or time without end."""

from __future__ import annotations

import socket

import pytest

from support.memory import Growth
from tailorbird.chat import templates
from tailorbird.chat.templates import render, render_here
from tailorbird.domain.errors import ModelInvalid
from tailorbird.domain.prompt import Message

TALK = [Message(role="system", content="be brief"), Message(role="user", content="hello")]
GROWING = {
    "joins": "{% set n = namespace(x='xx') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
    "adds": "{% set n = namespace(x='xx') %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}{{ n.x }}",
    "replaces": "{{ ('x' * 900000).replace('x', 'y' * 900000) }}",
    "writes": "{% set a = 'x' * 1000000 %}{% for i in range(100000) %}{{ a }}{% endfor %}",
    "lists": "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "blocks": "{% set a %}{% for i in range(99999) %}{{ 'x' * 99999 }}{% endfor %}{% endset %}{{ a }}",
    "macros": "{% macro m(x) %}{{ x }}{{ x }}{% endmacro %}" + "{{ " + "m(" * 40 + "'xx'" + ")" * 40 + " }}",
    "joined": "{% set a = 'x' * 1000000 %}{% set n = namespace(x=[a]) %}"
    "{% for i in range(20) %}{% set n.x = n.x + n.x %}{% endfor %}{{ n.x | join }}",
}


@pytest.mark.parametrize("name", GROWING)
def test_a_template_that_grows_step_by_step_is_refused_in_little_memory(name: str) -> None:
    growth = Growth()
    with pytest.raises(ModelInvalid) as caught:
        render(GROWING[name], TALK)
    assert caught.value.error_code == "chat_template"
    assert growth.bytes < 200_000_000
    assert render("{{ messages[1].content | replace('h', 'j') }}", TALK) == "jello"


def test_a_renderer_that_was_ended_from_outside_is_started_again() -> None:
    template = "{{ messages[0].content }}, outside"
    assert render(template, TALK) == "be brief, outside"
    dialogue = templates._renderer(template)._dialogue
    assert dialogue is not None
    dialogue._conversation._told.shutdown(socket.SHUT_RDWR)  # as of a caller who has gone: its server ends the child
    assert render(template, TALK) == "be brief, outside"


SLOW_TEMPLATE = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


def test_a_time_limit_has_a_code_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What refuses one conversation may take the next one; what is slow is slow again."""
    monkeypatch.setattr(templates, "RENDER_SECONDS", 0.2)
    with pytest.raises(ModelInvalid, match="did not end") as caught:
        render(SLOW_TEMPLATE, TALK)
    assert caught.value.error_code == "chat_template_slow"
    monkeypatch.undo()
    with pytest.raises(ModelInvalid) as refused:
        render_here("{{ raise_exception('no system turns') }}", TALK)
    assert refused.value.error_code == "chat_template"
