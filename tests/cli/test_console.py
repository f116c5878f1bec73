"""Lines are broken for a terminal alone."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest

from tailorbird.cli.console import FileConsole
from tailorbird.reporting import add_row, plain_table

LONG = "/a/path/that/nobody/wants/in/two/pieces" * 6


def printed(say: str, thing: Any, **settings: Any) -> list[str]:
    heard = StringIO()
    getattr(FileConsole(file=heard, color_system=None, **settings), say)(thing)
    return heard.getvalue().splitlines()


@pytest.fixture
def table() -> Any:
    made = plain_table(["path", "what"])
    add_row(made, [LONG, "first"])
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
