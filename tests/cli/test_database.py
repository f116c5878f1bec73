"""``tailorbird database``: SQL for psql on stdout, and a word where the database has no roles."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from tailorbird.cli import maintenance as database
from tailorbird.domain.errors import Conflict


@dataclass
class Ledger:
    script: str
    migrations: int = 0

    def role_script(self) -> str:
        return self.script

    def migrate(self) -> None:
        self.migrations += 1


def opened(monkeypatch: pytest.MonkeyPatch, script: str) -> Ledger:
    ledger = Ledger(script)
    monkeypatch.setattr(database, "open_session", lambda: SimpleNamespace(deps=SimpleNamespace(ledger=ledger), as_json=False))
    return ledger


def test_the_script_goes_to_stdout_as_it_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    opened(monkeypatch, "CREATE ROLE a;\n")
    database._roles()
    assert capsys.readouterr().out == "CREATE ROLE a;\n"


def test_a_file_has_no_roles(monkeypatch: pytest.MonkeyPatch) -> None:
    opened(monkeypatch, "")
    with pytest.raises(Conflict) as caught:
        database._roles()
    assert caught.value.error_code == "conflict"


def test_the_owner_migrates(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = opened(monkeypatch, "")
    database._migrate()
    assert ledger.migrations == 1
