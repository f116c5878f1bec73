"""``tailorbird promote`` and ``rollback``, as they are typed: who acts, what comes next, and what leads back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.bases import use_twins
from support.cli import called, tailorbird
from support.usecases import write_objective
from tailorbird.cli.session import open_session
from tailorbird.usecases.releases.release_queries import list_releases, show_release


def test_an_alias_of_another_tenant_is_not_ones_own_of_that_name(tmp_path: Path) -> None:
    assert tailorbird(tmp_path, "init", "--tenant", "acme").returncode == 0
    refused = tailorbird(tmp_path, "rollback", "globex/desk", "--as", "operator")
    assert refused.returncode == 1
    assert "error[alias_missing]" in refused.stderr
    assert "globex/NAME" in refused.stderr


def test_a_backup_is_restored_here_whatever_server_the_environment_names(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tailorbird.cli.main", "restore", "nowhere", "--workspace", "new"]
    environment = os.environ | {"TAILORBIRD_SERVER": "http://127.0.0.1:1"}
    refused = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "error[" in refused.stderr
    assert "local_only" not in refused.stderr


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a workspace and an objective that was adapted."""
    use_twins(monkeypatch)
    monkeypatch.setenv("TAILORBIRD_WORKSPACE", str(tmp_path / "work"))
    monkeypatch.setenv("COLUMNS", "300")
    called("init", "--tenant", "acme")
    write_objective(tmp_path / "job", business={"goal": "Route messages.", "owner": "support", "risk": "minimal"})
    monkeypatch.chdir(tmp_path / "job")
    called("adapt", "objective.yaml")
    return tmp_path


def only_release() -> str:
    session = open_session()
    return session.ask(list_releases, limit=2).releases[0].digest.removeprefix("sha256:")[:12]


def in_production(release: str) -> None:
    for verb in (("release", "approve", release), ("release", "stage", release), ("promote", release)):
        assert called(*verb) == 0


def test_who_acts_is_told_where_nobody_said_it(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    release = only_release()
    capfd.readouterr()
    assert called("release", "approve", release) == 0
    assert capfd.readouterr().err.count("as approver: no --as was given, and this verb is the approver's\n") == 1
    assert called("release", "stage", release, "--as", "operator") == 0
    assert "no --as was given" not in capfd.readouterr().err


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_key_that_lies_elsewhere_is_the_key_of_all_that_the_verb_asks(
    here: Path, capfd: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    """Without --as each verb acts as the identity that it is for, the whole time: one that went on as another failed after it had filed."""
    release, keys = only_release(), here / "stick"
    keys.mkdir()
    for name in ("approver", "operator"):
        (here / "work" / "keys" / "acme" / f"{name}.key").rename(keys / f"{name}.key")
    capfd.readouterr()
    assert called("release", "approve", release, "--key", str(keys / "approver.key"), *options) == 0
    told = capfd.readouterr()
    assert "error[" not in told.err
    assert ("next: tailorbird release stage" in told.err) is not bool(options)
    assert called("release", "verify", release, "--key", str(keys / "operator.key"), *options) == 0


def test_the_way_goes_on_after_a_promotion_and_leads_back_after_a_rollback(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    release = only_release()
    in_production(release)
    assert "tailorbird key create my-app --as admin; then: tailorbird serve" in capfd.readouterr().err
    assert called("key", "create", "my-app") == 0
    assert "next: tailorbird serve, which shows the first request" in capfd.readouterr().err
    assert called("plan", "objective.yaml") == 0
    assert f"this was adapted already: release {release} is production" in capfd.readouterr().err
    assert called("rollback", "desk", "--reason", "drill") == 1  # nobody is there to be asked
    assert "error[withdrawal_unasked]" in capfd.readouterr().err
    assert called("rollback", "desk", "--reason", "drill", "--withdraw") == 0
    told = capfd.readouterr()
    assert "acme/desk is withdrawn" in told.out
    assert f"release {release} is retired, which is final" in told.err
    assert "then tailorbird adapt OBJECTIVE" in told.err
    for verb in ("plan", "adapt"):
        assert called(verb, "objective.yaml") == 0
        both = "".join(capfd.readouterr())
        assert f"release {release} is retired, which is final" in both
        assert "then tailorbird adapt objective.yaml: any value changed" in both
        assert "next: tailorbird adapt" not in both


def test_a_release_is_rolled_back_first_and_withdrawn_where_it_is_asked_for(here: Path) -> None:
    first = only_release()
    in_production(first)
    replace_release(here)
    assert called("rollback", "desk") == 0
    assert open_session().ask(show_release, digest=first).state == "production"
    assert called("rollback", "desk") == 1
    assert called("rollback", "desk", "--withdraw") == 0
    assert open_session().ask(show_release, digest=first).state == "retired"


def replace_release(here: Path) -> str:
    """Puts another release in the place of the one that answers, and returns it."""
    path = here / "job" / "objective.yaml"
    path.write_text(path.read_text().replace("goal: Route messages.", "goal: Route messages of customers."))
    called("adapt", "objective.yaml")
    release = only_release()
    in_production(release)
    return release


def test_a_release_that_is_named_is_taken_back_alone(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    first = only_release()
    in_production(first)
    second = replace_release(here)
    assert called("rollback", "desk", "--release", first, "--json") == 1
    assert f"acme/desk does not answer by {first}, but by {second}" in capfd.readouterr().err
    assert called("rollback", "desk", "--release", second, "--json") == 0
    assert called("rollback", "desk", "--release", second, "--json") == 1
    assert open_session().ask(show_release, digest=first).state == "production"
