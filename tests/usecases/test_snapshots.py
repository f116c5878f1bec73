"""Snapshots listed, shown, compared, proved, reported and fixed: what people do with data beside the climb."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.usecases import VIEWER
from tailorbird import data
from tailorbird.crypto.merkle import verify_membership
from tailorbird.domain.curation import FixAction
from tailorbird.domain.dataset import Row, Split
from tailorbird.domain.errors import Forbidden, NotFound, TailorbirdError
from tailorbird.usecases import Actor, Dependencies, Progress, snapshots
from tailorbird.usecases.registry import perform
from tailorbird.usecases.runs import submit
from tailorbird.usecases.runs.submit import curate
from tailorbird.usecases.snapshots import Fix, Snapshot
from tailorbird.usecases.storage_quota import keep_upload


@pytest.fixture
def snapshot(deps: Dependencies, author: Actor, objective_path: Path) -> Snapshot:
    found = curate(deps, author, objective_path, Progress())
    return Snapshot(digest=found.digest, manifest=found.manifest)


def rows_of(deps: Dependencies, found: Snapshot, split: Split = Split.TRAIN) -> tuple[Row, ...]:
    return data.load_rows(found.manifest, deps.artifacts, split)


def test_curating_goes_no_further_and_adapt_takes_it_up(
    deps: Dependencies, author: Actor, snapshot: Snapshot, objective_path: Path
) -> None:
    with deps.ledger.work("acme", write=False) as work:
        (run,) = work.runs.all()
        assert [step.name for step in work.steps.of(run.id)] == ["snapshot"]
    assert submit.plan(deps, author, objective_path, Progress()).run.id == run.id
    for name in (snapshot.digest, snapshot.digest[7:19], "desk", run.id):
        assert snapshots.show_snapshot(deps, VIEWER, name).digest == snapshot.digest
    with pytest.raises(NotFound):
        snapshots.show_snapshot(deps, VIEWER, "another")
    with pytest.raises(NotFound) as by_file:
        snapshots.show_snapshot(deps, VIEWER, "objective.yaml")
    assert by_file.value.hint.startswith("an objective is given by its `name`")


def test_decisions_make_a_snapshot_and_one_event(deps: Dependencies, author: Actor, snapshot: Snapshot, objective_path: Path) -> None:
    first, second, third = rows_of(deps, snapshot)[:3]
    other = next(label for label in snapshot.manifest.labels if label != first.target)
    fixes = [
        Fix(row=first.id, action=FixAction.RELABEL, label=other),
        Fix(row=second.id, action=FixAction.DROP),
        Fix(row=third.id, action=FixAction.KEEP),
    ]
    done = snapshots.fix(deps, author, "desk", fixes)
    assert (done.kept, done.relabelled, done.dropped, done.manifest.parent) == (1, 1, 1, snapshot.digest)
    found = snapshots.diff_snapshots(deps, VIEWER, snapshot.digest, done.digest)
    assert (found.counts["relabelled"], found.counts["removed"], found.counts["added"]) == (1, 1, 0)
    assert (found.relabelled[0].before, found.relabelled[0].after, found.reasons) == (first.target, other, {"dropped": 1})
    with deps.ledger.work("acme", write=False) as work:
        logged = [entry for entry in work.events.latest(20) if entry.event.kind == "data.decided"]
        newest = work.events.latest(1)
    (event,) = [entry.event for entry in logged]
    assert (event.subject, event.data["parent"]) == (done.digest, snapshot.digest)
    assert [event.data[name] for name in ("kept", "relabelled", "dropped")] == [1, 1, 1]
    assert logged == list(newest)
    assert not [entry for entry in logged if first.id in entry.body or first.text in entry.body]
    again = curate(deps, author, objective_path, Progress())
    relabelled = next(row for row in rows_of(deps, Snapshot(digest=again.digest, manifest=again.manifest)) if row.text == first.text)
    assert (relabelled.target, relabelled.provenance.transforms) == (other, ("relabel:author",))
    assert again.manifest.size == done.manifest.size


@pytest.mark.parametrize(
    ("fix", "code"),
    [("missing", "not_found"), ("unknown label", "label_unknown"), ("no label", "label_unknown"), ("repeated", "invalid_input")],
)
def test_what_cannot_be_decided_is_refused_and_changes_nothing(
    deps: Dependencies, author: Actor, snapshot: Snapshot, fix: str, code: str
) -> None:
    row = rows_of(deps, snapshot)[0].id
    wrong = {
        "missing": [Fix(row="sha256:" + "0" * 64, action=FixAction.DROP)],
        "unknown label": [Fix(row=row, action=FixAction.RELABEL, label="unheard of")],
        "no label": [Fix(row=row, action=FixAction.RELABEL)],
        "repeated": [Fix(row=row, action=FixAction.KEEP), Fix(row=row, action=FixAction.DROP)],
    }[fix]
    with pytest.raises(TailorbirdError) as refused:
        snapshots.fix(deps, author, "desk", wrong)
    assert refused.value.error_code == code
    with deps.ledger.work("acme", write=False) as work:
        assert work.decisions.of("desk") == ()


def test_the_ranking_shows_texts_to_those_who_may(deps: Dependencies, author: Actor, operator: Actor, snapshot: Snapshot) -> None:
    found = snapshots.suspects(deps, author, "desk", 10)
    assert 0 < len(found.suspects) <= 10
    assert [one.score for one in found.suspects] == sorted((one.score for one in found.suspects), reverse=True)
    tests = {row.id for row in rows_of(deps, snapshot, Split.TEST)}
    assert not tests & {one.row for one in found.suspects}
    with deps.ledger.work("acme", write=False) as work:
        (entry,) = work.events.latest(1)
    assert (entry.event.kind, entry.event.actor, entry.event.subject) == ("data.read", "author", snapshot.digest)
    with pytest.raises(Forbidden):
        perform(deps, operator, snapshots.suspects, "desk", 10)
    snapshots.fix(deps, author, "desk", [Fix(row=found.suspects[0].row, action=FixAction.KEEP)])
    assert found.suspects[0].row not in {one.row for one in snapshots.suspects(deps, author, "desk", 10).suspects}


def test_presence_and_absence_of_a_row_are_proved(deps: Dependencies, snapshot: Snapshot) -> None:
    row = rows_of(deps, snapshot)[0]
    present = snapshots.prove_row(deps, VIEWER, "desk", row.text.upper(), row.target)
    absent = snapshots.prove_row(deps, VIEWER, "desk", "never said", row.target)
    assert (present.proof.present, absent.proof.present) == (True, False)
    assert verify_membership(present.proof, present.head)
    assert verify_membership(absent.proof, absent.head)


def test_an_upload_is_looked_at(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    rows = "".join(json.dumps({"text": f"words {n}", "label": "ab"[n % 2]}) + "\n" for n in range(20))
    (tmp_path / "sent").mkdir()
    (tmp_path / "sent" / "file").write_text(rows)
    sent = keep_upload(deps, author, tmp_path / "sent").digest
    found = snapshots.inspect_uploaded(deps, author, "deep/rows.jsonl", sent)
    assert (found.rows, found.task, found.name) == (20, "classify", "deep/rows.jsonl")
