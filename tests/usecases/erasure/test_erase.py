"""A person is forgotten: everywhere, provably, whoever is killed on the way, and without their name in the record."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.doubles import MemoryEndpoint
from support.hosted import MODEL, SECTION, allow, endpoint, hosting, last_word, register
from support.usecases import everything, on_both_databases, write_objective
from tailorbird import data
from tailorbird.crypto.canonical_json import digest_of, short
from tailorbird.crypto.merkle import Proof, TreeHead, verify_membership
from tailorbird.domain.dataset import SnapshotManifest, Split
from tailorbird.domain.erasure import Certificate, Erasure, ErasureState, Obligation, ObligationKind
from tailorbird.domain.errors import Busy, Forbidden, InvalidInput, NotFound
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.annotation import annotate
from tailorbird.usecases.erasure import erase
from tailorbird.usecases.identities import act_as
from tailorbird.usecases.maintenance import health
from tailorbird.usecases.maintenance.health import examine
from tailorbird.usecases.registry import perform
from tailorbird.usecases.releases import promotion
from tailorbird.usecases.runs import submit
from tailorbird.usecases.snapshots import find_snapshot

WHO = "Ada Lovelace"


class FixedClock:
    def __init__(self, at: datetime) -> None:
        self._at = at

    def now(self) -> datetime:
        return self._at


@pytest.fixture
def admin(deps: Dependencies) -> Actor:
    return act_as(deps, "acme", "admin")


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """An objective over rows of 75 people, ten rows each."""
    path = write_objective(tmp_path / "job", data=[_source()], kpis=[{"metric": "accuracy", "target": 0.7}])
    place = path.parent / "rows.csv"
    with place.open(newline="") as file:
        header, *rows = list(csv.reader(file))
    with place.open("w", newline="") as file:
        csv.writer(file).writerows([[*header, "who"], *([*row, WHO if n < 10 else f"person {n // 10}"] for n, row in enumerate(rows))])
    return path


def _source() -> dict[str, Any]:
    return {"path": "rows.csv", "subject": "who", "source": {"origin": "written for this test", "license": "Apache-2.0"}}


def erased(deps: Dependencies, admin: Actor) -> tuple[Erasure, Certificate]:
    found = erase.erase(deps, admin, WHO)
    return found.erasure, found.certificate


def snapshot_of(deps: Dependencies, name: str = "desk") -> SnapshotManifest:
    with deps.ledger.work("acme", write=False) as work:
        return find_snapshot(work, name).manifest


def subjects(deps: Dependencies, manifest: SnapshotManifest) -> set[str | None]:
    return {row.provenance.subject for split in Split for row in data.load_rows(manifest, deps.artifacts, split)}


def test_the_rows_are_gone_and_both_ends_are_proved(deps: Dependencies, author: Actor, admin: Actor, job: Path) -> None:
    submit.plan(deps, author, job, Progress())
    before = snapshot_of(deps)
    asked, certificate = erased(deps, admin)
    (rewritten,) = certificate.snapshots
    after = snapshot_of(deps)
    assert (digest_of(after), after.parent) == (rewritten.new, rewritten.old)
    assert (before.size - after.size, after.removed, len(rewritten.rows)) == (10, 10, 10)
    assert asked.subject in certificate.subject
    assert asked.subject not in subjects(deps, after)
    for row in rewritten.rows:
        was, gone = Proof.model_validate_json(row.was), Proof.model_validate_json(row.is_gone)
        assert was.key == gone.key == row.key
        assert was.present
        assert not gone.present
        assert verify_membership(was, TreeHead(root=rewritten.old_root, size=rewritten.old_size))
        assert verify_membership(gone, TreeHead(root=rewritten.new_root, size=rewritten.new_size))


def test_what_the_rows_reached_is_found_and_what_is_to_do_is_said(deps: Dependencies, author: Actor, admin: Actor, job: Path) -> None:
    ended = submit.adapt(deps, author, job, Progress())
    assert ended.conclusion is not None
    _, certificate = erased(deps, admin)
    reach = certificate.reach
    assert (reach.runs, len(reach.snapshots)) == ((ended.run.id,), 1)
    assert reach.candidates
    kinds = {duty.kind for duty in certificate.duties}
    assert {ObligationKind.CLEAN_SOURCE, ObligationKind.EXPIRE_BACKUPS} <= kinds
    (source,) = (duty for duty in certificate.duties if duty.kind is ObligationKind.CLEAN_SOURCE)
    assert source.what == "rows.csv"
    assert "line 2, 3, 4, 5, 6, 7, 8, 9, 10, 11" in source.why


@on_both_databases
def test_nothing_of_the_person_is_left_where_the_workspace_lies(deps: Dependencies, author: Actor, admin: Actor, job: Path) -> None:
    submit.plan(deps, author, job, Progress())
    said = next(row for row in data.load_rows(snapshot_of(deps), deps.artifacts, Split.TRAIN)).text
    words = [line.split(",")[0] for line in (job.parent / "rows.csv").read_text().splitlines()[1:11]]
    before = everything(deps)
    assert any(word in before for word in words)
    _, certificate = erased(deps, admin)
    after = everything(deps)
    assert not [word for word in words if word in after]
    assert WHO not in after
    assert said in after
    assert certificate.purged


def test_a_release_that_should_have_gone_is_told_of(
    deps: Dependencies, author: Actor, admin: Actor, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = submit.adapt(deps, author, job, Progress()).conclusion.release  # type: ignore[union-attr]
    assert release is not None
    duty = Obligation(kind=ObligationKind.RETIRE, what=short(release), due=date(2026, 6, 1), why="it shows the person's words")
    monkeypatch.setattr(erase, "duties_of", lambda *_: (duty,))
    asked, _ = erased(deps, admin)
    on_time = replace(deps, clock=FixedClock(datetime.combine(duty.due, time(12), UTC)))
    late = replace(deps, clock=FixedClock(datetime.combine(duty.due, time(12), UTC) + timedelta(days=1)))
    assert health.overdue_duties(on_time) == []
    (notice,) = health.overdue_duties(late)
    assert notice.code == "erasure_overdue"
    assert asked.id in notice.text
    assert duty.what in notice.text
    assert asked.subject not in notice.text
    assert notice in examine(late).notices


def test_the_person_does_not_come_back_with_the_same_files(deps: Dependencies, author: Actor, admin: Actor, job: Path) -> None:
    first = submit.plan(deps, author, job, Progress())
    asked, _ = erased(deps, admin)
    second = submit.plan(deps, author, job, Progress())
    assert second.run.id != first.run.id
    assert asked.subject not in subjects(deps, second.manifest)
    assert second.manifest.removed == 10
    assert submit.plan(deps, author, job, Progress()).run.id == second.run.id


@on_both_databases
def test_the_certificate_is_signed_by_who_may(deps: Dependencies, author: Actor, admin: Actor, job: Path) -> None:
    submit.plan(deps, author, job, Progress())
    asked, certificate = erased(deps, admin)
    digest = digest_of(certificate)
    assert asked.certificate == digest
    with pytest.raises(InvalidInput):
        erase.certify(deps, admin, asked.id, digest, admin.sign("release", digest))
    done = erase.certify(deps, admin, asked.id, digest, admin.sign(erase.PURPOSE, digest))
    assert (done.state, done.signature is not None) == (ErasureState.DONE, True)
    assert erase.erase(deps, admin, f"  {WHO.upper()} ").erasure == done


def test_only_an_admin_erases_and_a_denial_is_logged(deps: Dependencies, author: Actor, job: Path) -> None:
    with pytest.raises(Forbidden):
        perform(deps, author, erase.erase, WHO)
    with deps.ledger.work("acme", write=False) as work:
        assert work.events.latest(1)[0].event.kind == "access.denied"


def test_nobody_of_that_name_is_said_and_left_out_from_then_on(deps: Dependencies, author: Actor, admin: Actor, job: Path) -> None:
    with pytest.raises(NotFound):
        erase.erase(deps, admin, WHO)
    assert submit.plan(deps, author, job, Progress()).manifest.removed == 10
    with pytest.raises(InvalidInput):
        erase.erase(deps, admin, "  ")


def test_the_log_holds_neither_name_nor_pseudonym(deps: Dependencies, author: Actor, admin: Actor, job: Path) -> None:
    submit.plan(deps, author, job, Progress())
    asked, _ = erased(deps, admin)
    with deps.ledger.work("acme", write=False) as work:
        logged = [entry.body for entry in work.events.latest(100)]
    assert {"data.erasure_asked", "data.snapshot_rewritten", "data.erased"} <= {json.loads(body)["kind"] for body in logged}
    assert not [body for body in logged if WHO in body or asked.subject in body]


@pytest.mark.parametrize("moment", ["_rewrite", "_write_certificate", "destroy"])
def test_whoever_is_killed_on_the_way_goes_on(
    deps: Dependencies, author: Actor, admin: Actor, job: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    class Killed(BaseException):
        """Stands for a kill."""

    def kill(*_: object, **__: object) -> None:
        raise Killed

    submit.plan(deps, author, job, Progress())
    with monkeypatch.context() as patched:
        patched.setattr(*((type(deps.artifacts), "destroy") if moment == "destroy" else (erase, moment)), kill)
        with pytest.raises(Killed):
            erase.erase(deps, admin, WHO)
    asked, certificate = erased(deps, admin)
    assert len(certificate.snapshots) == 1
    assert not [digest for digest in certificate.purged if deps.artifacts.exists(digest)]
    assert asked.subject not in subjects(deps, snapshot_of(deps))


def test_two_do_not_carry_out_one_erasure_at_once(
    deps: Dependencies, author: Actor, admin: Actor, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit.plan(deps, author, job, Progress())

    def meanwhile(*_: object) -> None:
        monkeypatch.setattr(erase, "owner", lambda: "another machine:1")
        erase.erase(deps, admin, WHO)

    monkeypatch.setattr(erase, "_rewrite", meanwhile)
    with pytest.raises(Busy):
        erase.erase(deps, admin, WHO)


def test_every_endpoint_that_may_have_the_rows_is_named(deps: Dependencies, author: Actor, admin: Actor, job: Path) -> None:
    """The incumbent's (a release on another endpoint than the objective's), the teacher's, and whoever has labelled the rows."""
    deps = hosting(deps, MemoryEndpoint(last_word, model=MODEL))
    for name in ("outside", "first", "teacher", "labeller"):
        register(deps, endpoint(name=name, url=f"https://{name}.example"))
    allow(deps, "outside", "first", "teacher", "labeller")
    source = _source()
    source["source"] = source["source"] | {"processors": ["outside", "first", "teacher"]}
    made = {"at": "2026-01-01T00:00:00+00:00", "endpoint": "labeller", "model": "another"}
    generated = {
        "path": "made.csv",
        "split": "train",
        "source": {"origin": "x", "license": "Apache-2.0", "generated": made, "processors": ["outside", "first"]},
    }
    (job.parent / "made.csv").write_text("text,label\na wholly new wish for money back,refund\n")
    (job.parent / "texts.csv").write_text("text\nplease refund\n")
    teaching = {"endpoint": "teacher", "model": "third", "path": "texts.csv", "source": source["source"]}
    content = yaml.safe_load(job.read_text()) | {"data": [source], "hosted": SECTION, "ladder": ["hosted"], "teacher": teaching}
    job.write_text(yaml.safe_dump(content | {"hosted": SECTION | {"endpoint": "first"}}, sort_keys=False))
    first = submit.adapt(deps, author, job, Progress())
    annotate(deps, author, job, Progress(), lambda _: None)
    assert first.conclusion.release is not None
    promotion.sign_and_decide(deps, act_as(deps, "acme", "approver"), first.conclusion.release, "approve", "read")
    for move in (promotion.stage, promotion.promote):
        move(deps, act_as(deps, "acme", "operator"), first.conclusion.release)
    job.write_text(yaml.safe_dump(content | {"data": [source, generated]}, sort_keys=False))
    second = submit.adapt(deps, author, job, Progress())
    _, certificate = erased(deps, admin)
    told = {duty.what.partition(" ")[0]: duty.why for duty in certificate.duties if duty.kind is ObligationKind.TELL_PROCESSOR}
    assert set(told) == {"outside", "first", "teacher", "labeller"}
    assert f"run {second.run.id}" in told["first"]
    assert f"run {second.run.id}" in told["outside"]
    assert "texts to be labelled for desk" in told["teacher"]
    assert "made.csv, which it has labelled" in told["labeller"]
    assert any(duty.what == "labeller (https://labeller.example)" for duty in certificate.duties)
