"""``init``: the workspace it makes, and the objective of ``--from``."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.bases import use_twins
from support.cli import called
from tailorbird.cli import init
from tailorbird.objective import ProvidedFacts
from tailorbird.settings import find_workspace, load_settings

OPEN = {"origin": "", "license": "", "consent": "", "collected": ""}
ROWS = "Message,Queue,Customer No\n" + "".join(f"words {n} {n * 31} {n * 577} and more,{'ab'[n % 2]},C{n % 40}\n" for n in range(120))


def _write(folder: Path, said: ProvidedFacts, file: str) -> tuple[Path, ...]:
    return init._written(str(folder / file), "", folder, "acme", said)


def test_what_is_said_is_written_and_what_is_open_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rows.csv").write_text(ROWS)
    *_, path = _write(tmp_path, ProvidedFacts(text=("Message",), label=("Queue",), terms=OPEN | {"license": "proprietary"}), "rows.csv")
    assert 'license: "proprietary"' in path.read_text()
    told = capfd.readouterr().err
    assert "columns that the objective does not read: 'Customer No'" in told
    assert "still to be filled in" in told


@pytest.mark.parametrize("more", [(), ("--template", "classify")])
def test_the_workspace_that_the_environment_names_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]) -> None:
    """As every other command finds it; an option says otherwise, and one here is left alone."""
    use_twins(monkeypatch)
    monkeypatch.chdir(tmp_path)
    assert called("init", "--tenant", "here") == 0
    monkeypatch.setenv("TAILORBIRD_WORKSPACE", str(tmp_path / "named"))
    assert called("init", "--tenant", "acme", *more) == 0
    assert load_settings(find_workspace(None)).tenant == "acme"
    assert find_workspace(None) == tmp_path / "named"
    assert called("init", "--tenant", "acme", *more) == 0
    assert called("init", "--tenant", "globex", *more, "--workspace", "other") == 0
    assert load_settings(tmp_path / "other").tenant == "globex"
    assert load_settings(tmp_path / ".tailorbird").tenant == "here"


def test_a_second_objective_is_told_alone_and_has_a_name_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    use_twins(monkeypatch)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text(ROWS)
    asked = ("init", "--from", "rows.csv", "--text", "Message", "--label", "Queue")
    assert called("init", "--tenant", "acme") == 0
    assert "identity" in capfd.readouterr().out
    assert called(*asked) == 0
    told = capfd.readouterr()
    assert "is ready for tenant" not in told.err
    assert told.out == ""
    assert "is there already" not in told.err
    assert called(*asked) == 0
    assert "objective.yaml is there already, and stays: the new objective is rows.yaml" in capfd.readouterr().err
    assert "name: rows\n" in (tmp_path / "objective.yaml").read_text()
    assert "name: rows-2\n" in (tmp_path / "rows.yaml").read_text()


def test_data_are_found_from_an_objective_behind_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path is relative to the folder that the link leads to."""
    (tmp_path / "here").mkdir()
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "here" / "link").symlink_to(tmp_path / "far" / "away")
    (tmp_path / "here" / "rows.csv").write_text(ROWS)
    monkeypatch.chdir(tmp_path / "here")
    said = ProvidedFacts(text=("Message",), label=("Queue",), terms=OPEN)
    *_, path = init._written("rows.csv", "", Path("link"), "acme", said)
    assert "../../here/rows.csv" in path.read_text()
