"""Lines are broken for a terminal alone."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest

from tailorbird.cli.invocation import tell
from tailorbird.cli.session import FileConsole
from tailorbird.reporting.tables import PlainTable
from tailorbird.text.terminal_text import shown_json

LONG = "/a/path/that/nobody/wants/in/two/pieces" * 6


def printed(say: str, thing: Any, **settings: Any) -> list[str]:
    heard = StringIO()
    getattr(FileConsole(file=heard, color_system=None, **settings), say)(thing)
    return heard.getvalue().splitlines()


TEXT = "first line\n\nsecond line\r\nthird\u2028fourth"


def test_a_row_with_lines_of_its_own_is_a_line_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    made = PlainTable(["request", "its\nmessage"])
    made.add(["1", TEXT])
    made.add(["2", "short"])
    lines = printed("print", made)
    assert [" ".join(line.split()) for line in lines] == ["request its message", "1 first line second line third fourth", "2 short"]


@pytest.fixture
def table() -> Any:
    made = PlainTable(["path", "what"])
    made.add([LONG, "first"])
    return made


def test_a_file_gets_a_line_a_message_and_a_row(table: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert printed("print", LONG) == [LONG]
    assert [line.split() for line in printed("print", table)] == [["path", "what"], [LONG, "first"]]
    assert printed("rule", "item 1 of 4") == ["item 1 of 4"]


def test_a_terminal_and_a_width_that_was_asked_for_break_them(table: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert max(map(len, printed("print", table))) <= 60
    assert max(map(len, printed("print", LONG, force_terminal=True))) <= 60
    assert len(printed("rule", "item 1 of 4")[0]) == 60


#: Sets the title, clears the screen, writes to the clipboard, turns the direction; and what a text may hold.
ORDERS = "a\x1b]0;title\x1b\\\x1b[2J\x9b31m\x1b]52;c;aGk=\x7f\u202eb\ttab ü 猫"
WRITTEN_OUT = "a\\x1b]0;title\\x1b\\\\x1b[2J\\x9b31m\\x1b]52;c;aGk=\\x7f\\u202eb"


@pytest.mark.parametrize("settings", [{}, {"force_terminal": True}])
def test_words_of_others_give_no_orders_to_a_terminal(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    made = PlainTable(["request", "message"])
    made.add(["1", ORDERS])
    for thing in (ORDERS, made):
        heard = "\n".join(printed("print", thing, **settings))
        assert WRITTEN_OUT in heard
        assert "\x1b]" not in heard
        assert "\x1b[2J" not in heard
        assert not set(heard) & {"\x9b", "\x7f", "\u202e"}


def test_a_told_text_gives_none_either(capsys: pytest.CaptureFixture[str]) -> None:
    tell(ORDERS)
    assert WRITTEN_OUT in capsys.readouterr().out
    tell("one\r\ntwo\n")
    assert capsys.readouterr().out == "one\r\ntwo\n\n"


def test_nor_does_a_document() -> None:
    document = shown_json(json.dumps({"message": ORDERS}, ensure_ascii=False))
    assert json.loads(document) == {"message": ORDERS}
    assert not set(document) & {"\x1b", "\x9b", "\x7f", "\u202e"}
