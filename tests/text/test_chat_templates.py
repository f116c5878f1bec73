"""Chat templates of strangers: plain ones are rendered here, others by a confined process; none takes memory or time without end."""

from __future__ import annotations

import threading
import time

import pytest

from support.memory import Growth
from tailorbird.domain.errors import ModelInvalid
from tailorbird.domain.prompt import Message
from tailorbird.text import chat_templates
from tailorbird.text.chat_templates import render, render_here
from tailorbird.text.template_layout import is_plain

TALK = [Message(role="system", content="be brief"), Message(role="user", content="hello")]
PLAIN = {
    "chatml": "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "smollm2": "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are<|im_end|>\n' }}"
    "{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}",
    "zephyr": "{% for message in messages %}{% if message['role'] == 'user' %}{{ '<|user|>\n' + message['content'] + eos_token }}"
    "{% elif message['role'] == 'system' %}{{ '<|system|>\n' + message['content'] + eos_token }}{% endif %}{% endfor %}",
    "llama2": "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}"
    "{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
    "{% set content = message['content'] %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% endfor %}",
}
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
#: What is not plain: one value written as often as there is another.
NOT_PLAIN = [
    "{% for m in messages %}{{ messages }}{% endfor %}",
    "{% for m in messages %}{% for n in messages %}{{ n.content }}{% endfor %}{% endfor %}",
    "{% for c in messages[0].content %}{{ messages[0].content }}{% endfor %}",
    "{% set a = messages[0].content + messages[1].content %}{% for m in messages %}{{ a }}{% endfor %}",
    "{% set a = messages[0].content %}{% for m in messages %}{{ a }}{% endfor %}",
    "{% set a = messages[0].content + '' %}{% set b = a + a %}{% set c = b + b %}{{ c }}",
    "{{ " + " + ".join(["messages[0].content"] * 65) + " }}",
    "{% set a = " + " + ".join(["messages[0].content"] * 30) + " %}{{ a }}{{ a }}{{ a }}",
    "{% set a = messages[0].content + messages[0].content %}{% set b = a %}{% set a = b + b %}{{ a }}",
    "{{ messages[0].content.replace('a', 'b') }}",
    "{{ 'x' * 10 }}",
    "{{ messages[0].__class__ }}",
    "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}",
]


@pytest.mark.parametrize("name", PLAIN)
def test_templates_in_use_are_plain_and_rendered_alike_by_both(name: str) -> None:
    special = {"bos_token": "<s>", "eos_token": "</s>"}
    assert is_plain(PLAIN[name])
    confined = "{% macro unused() %}{% endmacro %}" + PLAIN[name]
    assert not is_plain(confined)
    assert render(PLAIN[name], TALK, special) == render(confined, TALK, special) == render_here(PLAIN[name], TALK, special)


@pytest.mark.parametrize("template", NOT_PLAIN)
def test_what_can_grow_faster_than_the_conversation_is_not_plain(template: str) -> None:
    assert not is_plain(template)


@pytest.mark.parametrize("name", GROWING)
def test_a_template_that_grows_step_by_step_is_refused_in_little_memory(name: str) -> None:
    growth, started = Growth(), time.monotonic()
    with pytest.raises(ModelInvalid) as caught:
        render(GROWING[name], TALK)
    assert caught.value.error_code == "chat_template"
    assert growth.bytes < 200_000_000
    assert time.monotonic() - started < 20
    assert render("{{ messages[1].content | replace('h', 'j') }}", TALK) == "jello"


def test_a_template_that_was_refused_is_tried_again_for_the_next_conversation() -> None:
    template = "{% if messages | length > 1 %}" + GROWING["joins"] + "{% endif %}fine"
    for _ in range(2):
        with pytest.raises(ModelInvalid):
            render(template, TALK)
        assert render(template, TALK[:1]) == "fine"


def test_many_threads_and_templates_at_once() -> None:
    wrong: list[str] = []

    def ask(number: int) -> None:
        template = f"{{{{ messages[0].content | replace('x', '{number % 11}') }}}}"
        for turn in range(20):
            text = render(template, [Message(role="user", content=f"x {number} {turn}")])
            if text != f"{number % 11} {number} {turn}":
                wrong.append(text)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


SLOW_TEMPLATE = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


def test_a_time_limit_has_a_code_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What refuses one conversation may take the next one; what is slow is slow again."""
    monkeypatch.setattr(chat_templates, "RENDER_SECONDS", 0.05)
    with pytest.raises(ModelInvalid, match="did not end") as caught:
        render_here(SLOW_TEMPLATE, TALK)
    assert caught.value.error_code == "chat_template_slow"
    process = chat_templates.confined({"template": SLOW_TEMPLATE})
    next(process)
    said = process.send({"messages": [one.model_dump() for one in TALK], "variables": {}, "mode": list(chat_templates.ASKED)})
    assert said["slow"] is True
    monkeypatch.undo()
    with pytest.raises(ModelInvalid) as refused:
        render_here("{{ raise_exception('no system turns') }}", TALK)
    assert refused.value.error_code == "chat_template"
