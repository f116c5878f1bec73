"""What a tenant's work may store: counted once an artifact, refused before it is written and again when it is committed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from support.usecases import write_objective
from tailorbird.domain.errors import Exhausted
from tailorbird.domain.identity import QuotaLimits
from tailorbird.domain.run import RunState
from tailorbird.domain.value import Digest
from tailorbird.usecases import Actor, Dependencies, Progress, tenants
from tailorbird.usecases.identities import FIRST_PEOPLE, act_as, initialise
from tailorbird.usecases.runs import submit as climbing
from tailorbird.usecases.storage_quota import keep_upload, require_room, stored_by, storing


@pytest.fixture
def host(deps: Dependencies) -> Dependencies:
    initialise(deps, "house", FIRST_PEOPLE)
    return replace(deps, host="house")


def limit(deps: Dependencies, number: int | None, tenant: str = "acme") -> None:
    tenants.limit_tenant(deps, act_as(deps, "house", "admin"), tenant, QuotaLimits(storage_bytes=number))


def upload(deps: Dependencies, actor: Actor, data: bytes) -> Digest:
    with TemporaryDirectory() as folder:
        (Path(folder) / "file").write_bytes(data)
        return keep_upload(deps, actor, Path(folder)).digest


def test_an_upload_beyond_the_quota_is_refused_and_leaves_nothing(host: Dependencies, author: Actor) -> None:
    limit(host, 5000)
    upload(host, author, b"a" * 4000)
    before, held = stored_by(host, "acme"), set(host.artifacts.digests())
    with pytest.raises(Exhausted) as refused:
        upload(host, author, b"b" * 1500)
    assert (refused.value.error_code, refused.value.status) == ("quota_storage", 429)
    assert "storage_bytes" in refused.value.hint
    assert stored_by(host, "acme") == before
    assert set(host.artifacts.digests()) == held
    limit(host, None)
    upload(host, author, b"b" * 1500)


def test_the_same_bytes_are_counted_once_a_tenant_and_for_each_tenant(host: Dependencies, author: Actor) -> None:
    other = act_as(host, "house", "author")
    for _ in range(3):
        upload(host, author, b"a" * 4000)
    limit(host, stored_by(host, "acme").all_bytes)
    upload(host, author, b"a" * 4000)
    assert 4000 < stored_by(host, "acme").bytes < 4200
    assert stored_by(host, "house").bytes == 0
    upload(host, other, b"a" * 4000)
    assert stored_by(host, "house").bytes == stored_by(host, "acme").bytes


def test_what_two_put_at_once_is_counted_together_when_it_is_committed(host: Dependencies, author: Actor) -> None:
    limit(host, 5000)

    def both() -> None:
        with storing(host, "acme") as (one, _):
            one.put(b"a" * 3000)
            with storing(host, "acme") as (other, _):
                other.put(b"b" * 3000)

    with pytest.raises(Exhausted):
        both()
    assert stored_by(host, "acme").bytes == 6000, "what was stored is charged, even where its work was refused"
    del author


def test_a_run_stores_within_the_quota_and_ends_with_the_reason_beyond(host: Dependencies, author: Actor, objective_path: Path) -> None:
    done = climbing.adapt(host, author, objective_path, Progress())
    used = stored_by(host, "acme")
    assert done.conclusion is not None
    assert used.artifacts > 10
    limit(host, used.all_bytes)
    path = write_objective(objective_path.parent.parent / "other", hard_share=7)
    with pytest.raises(Exhausted) as refused:
        climbing.adapt(host, author, path, Progress())
    assert refused.value.error_code == "quota_storage"


def test_a_step_that_passes_the_quota_fails_and_goes_on_once_there_is_room(host: Dependencies, author: Actor, objective_path: Path) -> None:
    run = climbing.submit(host, author, objective_path, RunState.ACTIVE)
    limit(host, stored_by(host, "acme").all_bytes + 20_000)
    with pytest.raises(Exhausted):
        climbing.adapt(host, author, objective_path, Progress())
    with host.ledger.work("acme") as work:
        (failed,) = [step for step in work.steps.of(run.id) if step.error]
        assert failed.error == "quota_storage"
        assert work.runs.get(run.id).state is RunState.FAILED
    limit(host, 10**9)
    assert climbing.adapt(host, author, objective_path, Progress()).conclusion is not None


def test_files_of_work_under_way_count(host: Dependencies, author: Actor, objective_path: Path) -> None:
    run = climbing.submit(host, author, objective_path, RunState.ACTIVE)
    (host.runs / run.id).mkdir(parents=True)
    (host.runs / run.id / "checkpoint").write_bytes(b"x" * 100_000)
    (host.runs / "of-somebody-else").mkdir()
    (host.runs / "of-somebody-else" / "checkpoint").write_bytes(b"x" * 100_000)
    assert stored_by(host, "acme").working_bytes == 100_000
    limit(host, 90_000)
    with pytest.raises(Exhausted):
        require_room(host, "acme", 0)


def commit_too_late(deps: Dependencies) -> None:
    with storing(deps, "acme") as (store, quota):
        store.put(b"a" * 4000)
        with deps.ledger.work("acme") as work:
            quota.enter(work)
            raise RuntimeError("the record was lost before the commit")


def test_what_was_stored_counts_after_a_rollback(host: Dependencies) -> None:
    with pytest.raises(RuntimeError):
        commit_too_late(host)
    assert stored_by(host, "acme").bytes == 4000
