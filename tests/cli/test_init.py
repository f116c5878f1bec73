"""``init``: the workspace it makes, and the questions of ``--from``, asked on a terminal once the data have been read, and not before."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pytest

from support.bases import use_twins
from tailorbird.cli import init
from tailorbird.cli.main import main
from tailorbird.domain.errors import DataInvalid, InvalidInput
from tailorbird.objective import ProvidedFacts
from tailorbird.settings import find_workspace, load_settings

OPEN = {"origin": "", "license": "", "consent": "", "collected": ""}
ROWS = "Message,Queue,Customer No\n" + "".join(f"words {n} {n * 31} {n * 577} and more,{'ab'[n % 2]},C{n % 40}\n" for n in range(120))


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    questions: list[str] = []

    def prompt(question: str, **_: object) -> str:
        questions.append(question)
        return "our own"

    monkeypatch.setattr(init, "sys", SimpleNamespace(stdin=_Terminal(), stderr=_Terminal()))
    monkeypatch.setattr("typer.prompt", prompt)
    return questions


def _write(folder: Path, said: ProvidedFacts, file: str) -> tuple[Path, ...]:
    return init._written(init._Wanted(str(folder / file), "", folder, "acme"), said, asks=True)


def test_nobody_is_asked_about_a_file_that_is_not_there(tmp_path: Path, asked: list[str]) -> None:
    with pytest.raises(DataInvalid):
        _write(tmp_path, ProvidedFacts(terms=OPEN), "mesages.csv")
    assert asked == []


def test_nobody_is_asked_where_a_column_is_not_there(tmp_path: Path, asked: list[str]) -> None:
    (tmp_path / "rows.csv").write_text(ROWS)
    with pytest.raises(InvalidInput, match="no column 'Mesage'"):
        _write(tmp_path, ProvidedFacts(text="Mesage", label="Queue", terms=OPEN), "rows.csv")
    assert asked == []


def test_what_is_said_is_written_and_columns_left_out_are_named(
    tmp_path: Path, asked: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.csv").write_text(ROWS)
    *_, path = _write(tmp_path, ProvidedFacts(text="Message", label="Queue", terms=OPEN | {"license": "proprietary"}), "rows.csv")
    assert len(asked) == 2
    text = path.read_text()
    assert 'origin: "our own"' in text
    assert 'license: "proprietary"' in text
    told = capfd.readouterr().err
    assert "columns that the objective does not read: 'Customer No'" in told


@pytest.mark.parametrize("more", [(), ("--template", "classify")])
def test_the_workspace_that_the_environment_names_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]) -> None:
    """As every other command finds it; an option says otherwise, and one here is left alone."""
    use_twins(monkeypatch)
    monkeypatch.chdir(tmp_path)
    assert _called("init", "--tenant", "here") == 0
    monkeypatch.setenv("TAILORBIRD_WORKSPACE", str(tmp_path / "named"))
    assert _called("init", "--tenant", "acme", *more) == 0
    assert load_settings(find_workspace(None)).tenant == "acme"
    assert find_workspace(None) == tmp_path / "named"
    assert _called("init", "--tenant", "acme", *more) == 0
    assert _called("init", "--tenant", "globex", *more, "--workspace", "other") == 0
    assert load_settings(tmp_path / "other").tenant == "globex"
    assert load_settings(tmp_path / ".tailorbird").tenant == "here"


def _called(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)
