"""``tailorbird release verify`` as somebody types it: an engine of several replicas, and files that changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.bases import use_twins
from support.cli import called
from support.usecases import write_objective
from tailorbird.cli import release as verbs
from tailorbird.cli.session import open_session
from tailorbird.domain.effect import EffectReading, EffectStanding
from tailorbird.domain.errors import Corrupt
from tailorbird.domain.release import Release
from tailorbird.usecases.releases import load_verification
from tailorbird.usecases.releases.load_verification import EffectReport
from tailorbird.usecases.releases.release_queries import list_releases


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Release:
    """A release of a prompt, in a workspace of its own."""
    use_twins(monkeypatch)
    monkeypatch.setenv("TAILORBIRD_WORKSPACE", str(tmp_path / "work"))
    called("init", "--tenant", "acme")
    write_objective(tmp_path / "job", ladder=["prompt"], business={"goal": "Route messages.", "owner": "support", "risk": "minimal"})
    monkeypatch.chdir(tmp_path / "job")
    called("adapt", "objective.yaml")
    return open_session().ask(list_releases, limit=2).releases[0]


def test_every_replica_is_asked_and_told_of(made: Release, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Also behind one that refuses, and as one JSON document."""
    asked: list[object] = []

    def verify(deps: object, actor: object, digest: str, driver: object, *, adapters_only: bool) -> EffectReport:
        asked.append(driver)
        if driver == "one":
            raise Corrupt("it answers as its base does", "see what it maps", code="adapter_inert")
        return EffectReport(release=made.digest, reading=EffectReading(standing=EffectStanding.SHOWN, effect=0.5))

    monkeypatch.setattr(verbs, "verify_effect", verify)
    monkeypatch.setattr(verbs.wiring, "open_outside_drivers", lambda *_: ("one", "two", "three"))
    capfd.readouterr()
    assert called("release", "verify", made.digest, "--engine", "--json") == 1
    found = capfd.readouterr()
    assert asked == ["one", "two", "three"]
    assert [one["reading"]["standing"] for one in json.loads(found.out)] == ["shown", "shown"]
    assert "adapter_inert" in found.err


def test_files_are_verified_where_no_engine_can_be_asked(
    made: Release, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert called("release", "verify", made.digest, "--engine") == 0
    assert "shown: the engine answers 0.000 nats from what was measured" in capfd.readouterr().out
    monkeypatch.setattr(load_verification, "is_provable", lambda _: False)
    assert called("release", "verify", made.digest, "--engine") == 0
    assert "unprovable" in capfd.readouterr().out
    deps = open_session().deps
    changed = next(path for path in deps.artifacts.get_tree(made.content.base_model).iterdir() if path.stat().st_size)
    changed.chmod(0o600)
    changed.write_bytes(changed.read_bytes() + b"x")
    assert called("release", "verify", made.digest, "--engine") == 1
    assert "error[" in capfd.readouterr().err
