"""Chat templates of strangers are rendered by a confined process; none takes memory or time without end."""

from __future__ import annotations

import pytest

from support.memory import Growth
from tailorbird.chat import templates
from tailorbird.chat.templates import render, render_here
from tailorbird.domain.errors import ModelInvalid
from tailorbird.domain.prompt import Message

TALK = [Message(role="system", content="be brief"), Message(role="user", content="hello")]
GROWING = {
    "joins": "{% set n = namespace(x='xx') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
    "writes": "{% set a = 'x' * 1000000 %}{% for i in range(100000) %}{{ a }}{% endfor %}",
    "lists": "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "macros": "{% macro m(x) %}{{ x }}{{ x }}{% endmacro %}" + "{{ " + "m(" * 40 + "'xx'" + ")" * 40 + " }}",
}


@pytest.mark.parametrize("name", GROWING)
def test_a_template_that_grows_step_by_step_is_refused_in_little_memory(name: str) -> None:
    growth = Growth()
    with pytest.raises(ModelInvalid) as caught:
        render(GROWING[name], TALK)
    assert caught.value.error_code == "chat_template"
    assert growth.bytes < 200_000_000
    assert render("{{ messages[1].content | replace('h', 'j') }}", TALK) == "jello"


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
