"""One objective for many tenants: each has its own rows, run and release, one that fails ends no other, and nothing crosses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from support.bases import place_twin, use_twins
from support.control import NowClock, control_app, served, use_clock
from support.tenants import TENANTS, write_tenants
from support.usecases import everything
from tailorbird import Workspace
from tailorbird.domain.dataset import SnapshotManifest
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.identity import Role
from tailorbird.processes.worker import StepWorker
from tailorbird.sdk import runs as remote_runs
from tailorbird.usecases import Dependencies, Progress
from tailorbird.usecases.identities import FIRST_PEOPLE, initialise
from tailorbird.usecases.runs import submit as runs
from tailorbird.usecases.tenants import suspend_tenant


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    use_twins(monkeypatch)
    with Workspace.create(tmp_path / ".tailorbird", tenant="host") as made:
        for tenant in TENANTS:
            initialise(made._session.deps, tenant, FIRST_PEOPLE)
        yield made


@pytest.fixture
def objective(tmp_path: Path) -> Path:
    return write_tenants(tmp_path / "job")


def states(found: Sequence[object]) -> dict[str, str]:
    return {each.tenant: each.state for each in found}  # type: ignore[attr-defined]


def test_each_tenant_gets_a_release_of_its_own_from_its_own_rows(workspace: Workspace, objective: Path) -> None:
    found = workspace.adapt_tenants(objective, "bolt,cove,dune")
    assert states(found) == dict.fromkeys(TENANTS, "release")
    assert len({each.release for each in found}) == len({each.run for each in found}) == 3
    for each in found:
        assert (each.rung.split()[0], each.verdict, each.split) == ("floor", "pass", "test")
        assert each.kpis[0].name == "accuracy"
        with workspace._session.deps.ledger.work(each.tenant, write=False) as work:
            (release,) = work.releases.all()
            assert (release.digest, release.content.tenant, release.content.author) == (each.release, each.tenant, "author")
            manifest = work.records.get(SnapshotManifest, release.content.snapshot)
            assert list(manifest.files) == [f"rows/{each.tenant}.csv"]
    for name in TENANTS:
        assert name in repr(found)
    assert "accuracy 0.8" in repr(found)


def test_nothing_of_a_tenant_stands_in_the_record_of_another(workspace: Workspace, objective: Path) -> None:
    workspace.adapt_tenants(objective, ["bolt", "cove"])
    deps = workspace._session.deps
    assert "at-bolt" in everything(deps)
    for mine, theirs in (("bolt", "cove"), ("cove", "bolt")):
        with deps.ledger.system(write=False) as system:
            digests = set(system.references.digests(of=mine))
        held = [deps.artifacts.get(digest).decode("utf-8", "replace") for digest in digests if deps.artifacts.exists(digest)]
        assert any(f"at-{mine}" in text for text in held)
        assert not [text for text in held if f"at-{theirs}" in text or f"mails to {theirs}" in text]


def test_one_tenants_failure_ends_no_other(workspace: Workspace, objective: Path) -> None:
    (objective.parent / "rows" / "cove.csv").write_text("text,label\n")
    said: list[str] = []
    found = workspace.adapt_tenants(objective, "bolt,cove,dune", progress=said.append)
    assert states(found) == {"bolt": "release", "cove": "failed", "dune": "release"}
    failure = found[1].failure
    assert failure is not None
    assert "rows/cove.csv" in failure.message
    assert any("the others go on" in line for line in said)
    assert any(line.startswith("dune (3 of 3): ") for line in said)
    assert failure.hint in repr(found)


def test_doing_it_again_goes_on_where_it_was_interrupted(workspace: Workspace, objective: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = runs.adapt

    def cut_off(deps: Dependencies, actor: object, path: Path, progress: Progress, **options: bool) -> object:
        if actor.tenant == "cove":  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        return real(deps, actor, path, progress, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(runs, "adapt", cut_off)
    with pytest.raises(KeyboardInterrupt):
        workspace.adapt_tenants(objective, "bolt,cove,dune")
    monkeypatch.setattr(runs, "adapt", real)
    again = workspace.adapt_tenants(objective, "bolt,cove,dune")
    assert states(again) == dict.fromkeys(TENANTS, "release")
    assert [each.done_before for each in again] == [True, False, False]


def test_all_leaves_out_who_has_no_rows_and_who_is_suspended(workspace: Workspace, objective: Path) -> None:
    suspend_tenant(workspace._session.deps, workspace._session.actor("admin"), "dune")
    found = workspace.adapt_tenants(objective, "all")
    assert states(found) == {"bolt": "release", "cove": "release", "host": "left_out"}


@pytest.mark.parametrize("named", ["bolt,bolt", "", "../bolt", "Bolt"])
def test_what_names_no_tenant_is_refused(workspace: Workspace, objective: Path, named: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        workspace.adapt_tenants(objective, named)
    assert caught.value.error_code == "invalid_input"


def test_two_tenants_with_the_same_rows_are_both_refused_and_the_third_goes_on(workspace: Workspace, objective: Path) -> None:
    rows = objective.parent / "rows"
    (rows / "cove.csv").unlink()
    (rows / "cove.csv").symlink_to(rows / "bolt.csv")
    found = workspace.adapt_tenants(objective, "bolt,cove,dune")
    assert states(found) == {"bolt": "failed", "cove": "failed", "dune": "release"}
    assert {each.failure.code for each in found if each.failure} == {"tenants_share_rows"}


def test_who_may_not_author_for_a_tenant_fails_there_alone(workspace: Workspace, objective: Path) -> None:
    deps = workspace._session.deps
    initialise(deps, "bolt", {"seller": frozenset({Role.AUTHOR})})
    initialise(deps, "cove", {"seller": frozenset({Role.VIEWER})})
    with Workspace(workspace._session.settings.workspace, identity="seller") as there:
        found = there.adapt_tenants(objective, "bolt,cove,dune")
    assert states(found) == {"bolt": "release", "cove": "failed", "dune": "failed"}
    assert [each.failure.code for each in found if each.failure] == ["role_missing", "identity_missing"]
    with deps.ledger.work("bolt", write=False) as work:
        assert work.releases.all()[0].content.author == "seller"


def test_by_url_workers_climb_for_all_and_each_is_followed(tmp_path: Path, deps: Dependencies, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_runs, "POLL_SECONDS", 0.01)
    place_twin("smollm2-135m", deps.models)
    use_clock(deps, NowClock())
    objective = write_tenants(tmp_path / "job", ("acme", "globex"), base_model="smollm2-135m")
    (objective.parent / "rows" / "globex.csv").write_text("text,label\n")
    seen: list[str] = []

    def work(line: str) -> None:
        seen.append(line)
        StepWorker(deps, Progress(), lambda _: None, once=True).run()

    key = deps.workspace / "keys" / "{tenant}" / "author.key"
    with served(control_app(deps)) as url, Workspace.connect(url, tenant="acme", identity="author", key=key) as there:
        found = there.adapt_tenants(objective, "acme,globex", progress=work)
    assert states(found) == {"acme": "release", "globex": "failed"}, [each.failure for each in found]
    assert found[1].failure is not None
    assert found[1].failure.code == "data_invalid"
    with deps.ledger.work("acme", write=False) as mine, deps.ledger.work("globex", write=False) as theirs:
        assert [release.digest for release in mine.releases.all()] == [found[0].release]
        assert not theirs.releases.all()
