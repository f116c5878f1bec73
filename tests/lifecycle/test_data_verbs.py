"""Snapshots listed, shown, compared, proved, reported and fixed: what people do with data beside the climb."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lifecycle_kit import write_objective

from tailorbird import data
from tailorbird.domain.dataset import Row, Split
from tailorbird.domain.errors import DataInvalid, Forbidden, InvalidInput, NotFound
from tailorbird.domain.fixing import FixAction
from tailorbird.foundations.membership import verify_membership
from tailorbird.lifecycle import Actor, Parts, Progress
from tailorbird.lifecycle.data import fixing, looking, reporting
from tailorbird.lifecycle.data.finding import Snapshot
from tailorbird.lifecycle.data.fixing import Fix
from tailorbird.lifecycle.identities.people import act_as
from tailorbird.lifecycle.running import adapt
from tailorbird.lifecycle.running.curate import curate
from tailorbird.reporting import data_report


@pytest.fixture
def snapshot(parts: Parts, author: Actor, objective_path: Path) -> Snapshot:
    found = curate(parts, author, objective_path, Progress())
    return Snapshot(digest=found.digest, manifest=found.manifest)


def rows_of(parts: Parts, found: Snapshot, split: Split = Split.TRAIN) -> tuple[Row, ...]:
    return data.load_rows(found.manifest, parts.artifacts, split)


def test_curating_goes_no_further_and_adapt_takes_it_up(parts: Parts, author: Actor, snapshot: Snapshot, objective_path: Path) -> None:
    with parts.ledger.work("acme", write=False) as work:
        (run,) = work.runs.all()
        assert [step.name for step in work.steps.of(run.id)] == ["snapshot"]
    assert adapt.plan(parts, author, objective_path, Progress()).run.id == run.id
    for name in (snapshot.digest, snapshot.digest[7:19], "desk", run.id):
        assert looking.show(parts, "acme", name).digest == snapshot.digest
    with pytest.raises(NotFound):
        looking.show(parts, "acme", "another")


def test_a_decision_makes_a_snapshot_and_an_event_each(parts: Parts, author: Actor, snapshot: Snapshot, objective_path: Path) -> None:
    first, second, third = rows_of(parts, snapshot)[:3]
    other = next(label for label in snapshot.manifest.labels if label != first.target)
    fixes = [
        Fix(row=first.id, action=FixAction.RELABEL, label=other),
        Fix(row=second.id, action=FixAction.DROP),
        Fix(row=third.id, action=FixAction.KEEP),
    ]
    done = fixing.fix(parts, author, "desk", fixes)
    assert (done.kept, done.relabelled, done.dropped, done.manifest.parent) == (1, 1, 1, snapshot.digest)
    found = looking.diff(parts, "acme", snapshot.digest, done.digest)
    assert (found.counts["relabelled"], found.counts["removed"], found.counts["added"]) == (1, 1, 0)
    assert (found.relabelled[0].before, found.relabelled[0].after, found.reasons) == (first.target, other, {"dropped": 1})
    with parts.ledger.work("acme", write=False) as work:
        logged = [entry for entry in work.events.latest(20) if entry.event.kind == "data.decided"]
    assert len(logged) == 3
    assert not [entry for entry in logged if first.id in entry.body or first.text in entry.body]
    again = curate(parts, author, objective_path, Progress())
    relabelled = next(row for row in rows_of(parts, Snapshot(digest=again.digest, manifest=again.manifest)) if row.text == first.text)
    assert (relabelled.target, relabelled.provenance.transforms) == (other, ("relabel:author",))
    assert again.manifest.size == done.manifest.size


def test_only_keeping_changes_no_snapshot(parts: Parts, author: Actor, snapshot: Snapshot) -> None:
    row = rows_of(parts, snapshot)[0]
    assert fixing.fix(parts, author, "desk", [Fix(row=row.id, action=FixAction.KEEP)]).digest == snapshot.digest


def test_a_relabelled_row_that_repeats_another_goes(parts: Parts, author: Actor, tmp_path: Path) -> None:
    path = write_objective(tmp_path / "twice")
    place = path.parent / "rows.csv"
    lines = place.read_text().splitlines()
    text, label = lines[1].rsplit(",", 1)
    other = next(one for one in ("refund", "delivery", "login") if one != label)
    place.write_text("\n".join([*lines, f"{text},{other}"]) + "\n")
    before = curate(parts, author, path, Progress())
    row = next(
        row
        for split in Split
        for row in data.load_rows(before.manifest, parts.artifacts, split)
        if row.text == text and row.target == label
    )
    done = fixing.fix(parts, author, "desk", [Fix(row=row.id, action=FixAction.RELABEL, label=other)])
    assert done.manifest.size == before.manifest.size - 1


@pytest.mark.parametrize(("fix", "error"), [("missing", NotFound), ("unknown label", InvalidInput), ("no label", InvalidInput)])
def test_what_cannot_be_decided_is_refused_and_changes_nothing(
    parts: Parts, author: Actor, snapshot: Snapshot, fix: str, error: type[Exception]
) -> None:
    row = rows_of(parts, snapshot)[0].id
    wrong = {
        "missing": Fix(row="sha256:" + "0" * 64, action=FixAction.DROP),
        "unknown label": Fix(row=row, action=FixAction.RELABEL, label="unheard of"),
        "no label": Fix(row=row, action=FixAction.RELABEL),
    }[fix]
    with pytest.raises(error):
        fixing.fix(parts, author, "desk", [wrong])
    with parts.ledger.work("acme", write=False) as work:
        assert work.decisions.of("desk") == ()


def test_a_split_is_not_emptied_by_decisions(parts: Parts, author: Actor, snapshot: Snapshot) -> None:
    with pytest.raises(DataInvalid):
        fixing.fix(parts, author, "desk", [Fix(row=row.id, action=FixAction.DROP) for row in rows_of(parts, snapshot, Split.DEV)])


def test_the_ranking_shows_texts_to_those_who_may(parts: Parts, author: Actor, operator: Actor, snapshot: Snapshot) -> None:
    found = fixing.suspects(parts, author, "desk", 10)
    assert 0 < len(found.suspects) <= 10
    assert [one.score for one in found.suspects] == sorted((one.score for one in found.suspects), reverse=True)
    tests = {row.id for row in rows_of(parts, snapshot, Split.TEST)}
    assert not tests & {one.row for one in found.suspects}
    with parts.ledger.work("acme", write=False) as work:
        (entry,) = work.events.latest(1)
    assert (entry.event.kind, entry.event.actor, entry.event.subject) == ("data.read", "author", snapshot.digest)
    with pytest.raises(Forbidden):
        fixing.suspects(parts, operator, "desk", 10)
    fixing.fix(parts, author, "desk", [Fix(row=found.suspects[0].row, action=FixAction.KEEP)])
    assert found.suspects[0].row not in {one.row for one in fixing.suspects(parts, author, "desk", 10).suspects}


def test_presence_and_absence_of_a_row_are_proved(parts: Parts, snapshot: Snapshot) -> None:
    row = rows_of(parts, snapshot)[0]
    present = looking.prove(parts, "acme", "desk", row.text.upper(), row.target)
    absent = looking.prove(parts, "acme", "desk", "never said", row.target)
    assert (present.proof.present, absent.proof.present) == (True, False)
    assert verify_membership(present.proof, present.head)
    assert verify_membership(absent.proof, absent.head)


def test_the_report_shows_texts_only_when_asked(parts: Parts, author: Actor, operator: Actor, snapshot: Snapshot) -> None:
    texts = [row.text for split in Split for row in rows_of(parts, snapshot, split)]
    plain = data_report(reporting.report(parts, operator, "desk", examples=False))
    assert not [text for text in texts if text in plain]
    assert snapshot.digest in plain
    with pytest.raises(Forbidden):
        data_report(reporting.report(parts, operator, "desk", examples=True))
    shown = data_report(reporting.report(parts, author, "desk", examples=True))
    assert [text for text in texts if text in shown]


def test_markup_in_the_data_is_only_text_in_the_report(parts: Parts, author: Actor, tmp_path: Path) -> None:
    path = write_objective(tmp_path / "nasty")
    place = path.parent / "rows.csv"
    place.write_text(place.read_text().replace(",refund", ",<script>alert(1)</script>"))
    curate(parts, author, path, Progress())
    assert "<script>" not in data_report(reporting.report(parts, act_as(parts, "acme", "author"), "desk", examples=True))


def test_an_upload_is_looked_at(parts: Parts) -> None:
    rows = "".join(json.dumps({"text": f"words {n}", "label": "ab"[n % 2]}) + "\n" for n in range(20))
    found = reporting.inspect_uploaded(parts, "deep/rows.jsonl", parts.artifacts.put(rows.encode()))
    assert (found.rows, found.task, found.name) == (20, "classify", "deep/rows.jsonl")
