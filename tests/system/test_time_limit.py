"""Templates that loop or grow without end are refused, and nobody else is disturbed by it."""

from __future__ import annotations

import threading
import time

import pytest

from tailorbird.domain.errors import ModelInvalid
from tailorbird.domain.prompt import Message
from tailorbird.system.time_limit import TimeLimitExceeded, time_limit
from tailorbird.text import chat_templates
from tailorbird.text.chat_templates import render

TALK = [Message(role="user", content="hello")]
LOOPS = "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}"


def _turn_for_ever() -> None:
    while True:
        pass


def test_a_loop_without_end_is_ended() -> None:
    started = time.monotonic()
    with pytest.raises(TimeLimitExceeded), time_limit(0.2):
        _turn_for_ever()
    assert time.monotonic() - started < 5
    for _ in range(1000):
        with time_limit(5):
            pass


def test_blocks_do_not_disturb_each_other() -> None:
    late, ended = [], []

    def work(seconds: float) -> None:
        try:
            with time_limit(seconds):
                until = time.monotonic() + 1
                while time.monotonic() < until:
                    pass
            ended.append(seconds)
        except TimeLimitExceeded:
            late.append(seconds)

    threads = [threading.Thread(target=work, args=(seconds,)) for seconds in (0.1, 60, 0.2, 60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sorted(late), ended) == ([0.1, 0.2], [60, 60])


def test_a_template_that_loops_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_templates, "RENDER_SECONDS", 0.3)
    started = time.monotonic()
    with pytest.raises(ModelInvalid) as refused:
        render(LOOPS, TALK)
    assert refused.value.error_code == "chat_template_slow"
    assert time.monotonic() - started < 10
    assert render("{{ messages[0].content }}", TALK) == "hello"


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'x' * 1000000000 }}",
        "{{ 1000000000 * 'x' }}",
        "{{ 9 ** (9 ** 9) }}",
        "{{ ('x' * 1000) * 100000 }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%*d' % (1000000000, 1) }}",
        "{{ [1] * 1000000000 }}",
        "{{ 'x'|center(1000000000) }}",
        "{{ 'x'.ljust(1000000000) }}",
        "{{ 'x'|batch(1000000000, 'y')|list }}",
        "{{ '%1000000000d'|format(1) }}",
        "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
    ],
)
def test_a_template_that_grows_without_end_is_refused(template: str) -> None:
    started = time.monotonic()
    with pytest.raises(ModelInvalid):
        render(template, TALK)
    assert time.monotonic() - started < 5


def test_what_templates_do_is_still_done() -> None:
    assert render("{{ 'ab' * 3 }} {{ 2 ** 10 }} {{ 7 % 2 }} {{ '%05d' % 7 }} {{ 3 * 4 }}", TALK) == "ababab 1024 1 00007 12"
    assert render("{{ 'a'|center(5) }}{{ [1, 2]|join(',') }}{{ '%03d'|format(7) }}{{ {'a': 1}|tojson }}", TALK) == '  a  1,2007{"a": 1}'
