"""Rows of people with terms of use: whose they are, how long they may be kept, what takes them out, and the seal over them."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from support.data import Store, make_objective
from tailorbird.crypto.canonical_json import canonical_json
from tailorbird.crypto.merkle import TreeHead, key_of, verify_membership
from tailorbird.data import BuiltSnapshot, SnapshotRequest, build_snapshot, read_sources
from tailorbird.data.provenance import Amendments, head, members_of, salt_of, seal_of
from tailorbird.data.pseudonyms import pseudonym
from tailorbird.data.readers.sources import row_id
from tailorbird.domain.curation import Decision, FixAction
from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.objective import DataOrigin, Objective, TermColumns

SECRET = b"k" * 32


PEOPLE = ("Ann", "Bob", "Cy", "Dee", "Eve", "Fay")


COLUMNS = TermColumns(license="licence", collected="year", consent="basis", retain_until="until")


def write(folder: Path, **changes: object) -> Objective:
    """Sixty rows of six people."""
    blank = dict.fromkeys(("licence", "year", "basis", "until"))
    rows = [
        blank | {"text": f"row {n} says {['yes', 'no', 'maybe'][n % 3]} {n * n}", "label": "ab"[n % 2], "who": PEOPLE[n % 6]} | changes
        for n in range(60)
    ]
    (folder / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return make_objective({"path": "d.jsonl", "subject": "who", "terms": COLUMNS})


def built(objective: Objective, folder: Path, store: Store | None = None, **amendments: object) -> BuiltSnapshot:
    amended = Amendments(**{"secret": SECRET, **amendments})  # type: ignore[arg-type]
    return build_snapshot(SnapshotRequest(objective, folder, store or Store(), {}, lambda _: None, amended))


def test_the_rows_of_somebody_erased_are_gone_and_listed(tmp_path: Path) -> None:
    objective, who = write(tmp_path), pseudonym(SECRET, "acme", "Ann")
    before, after = built(objective, tmp_path), built(objective, tmp_path, erased=frozenset({who}))
    assert {row.provenance.subject for row in before.rows} - {row.provenance.subject for row in after.rows} == {who}
    gone = [entry for entry in after.quarantined if entry.code == "erased"]
    assert (len(gone), after.manifest.removed, after.manifest.size) == (10, 10, before.manifest.size - 10)
    assert {entry.line for entry in gone} == set(range(1, 61, 6))


def test_rows_past_their_retention_are_dropped_and_listed_even_when_they_are_most(tmp_path: Path) -> None:
    objective = write(tmp_path)
    source = objective.data[0].model_copy(update={"source": DataOrigin(origin="o", license="MIT", retain_until=date(2026, 3, 1))})
    rows = [json.loads(line) for line in (tmp_path / "d.jsonl").read_text().splitlines()]
    for row in rows[:20]:
        row["until"] = "2030-01-01"
    (tmp_path / "d.jsonl").write_text("".join(json.dumps({"until": None} | row) + "\n" for row in rows))
    objective = objective.model_copy(update={"data": (source.model_copy(update={"terms": TermColumns(retain_until="until")}),)})
    last_day, after = (built(objective, tmp_path, today=day) for day in (date(2026, 3, 1), date(2026, 3, 2)))
    assert (last_day.manifest.removed, after.manifest.removed, after.manifest.size) == (0, 40, 20)
    reasons = {entry.reason for entry in after.quarantined if entry.code == "retention_over"}
    assert reasons == {"it could be kept until 2026-03-01"}


def test_decisions_of_people_relabel_and_drop(tmp_path: Path) -> None:
    objective, at = write(tmp_path), datetime(2026, 1, 1, tzinfo=UTC)
    rows = read_sources(objective, tmp_path, SECRET).rows
    first, second, third = (row_id(row.text, row.target) for row in rows[:3])
    made = [
        Decision(objective="desk", row=first, action=FixAction.RELABEL, label="b", by="ann", at=at),
        Decision(objective="desk", row=second, action=FixAction.DROP, by="ann", at=at),
        Decision(objective="desk", row=third, action=FixAction.KEEP, by="ann", at=at),
    ]
    found = built(objective, tmp_path, decisions={decision.row: decision for decision in made})
    by_text = {row.text: row for row in found.rows}
    assert (by_text[rows[0].text].target, by_text[rows[0].text].provenance.transforms) == ("b", ("relabel:ann",))
    assert rows[1].text not in by_text
    assert by_text[rows[2].text].target == rows[2].target
    assert [entry.code for entry in found.quarantined] == ["dropped"]


def test_the_seal_proves_rows_present_and_absent(tmp_path: Path) -> None:
    store, objective = Store(), write(tmp_path)
    snapshot = built(objective, tmp_path, store)
    stored = store.get(snapshot.manifest.seal or "")
    salt, tree, top = salt_of(SECRET, "desk"), members_of(stored), TreeHead(root=snapshot.manifest.root, size=snapshot.manifest.size)
    assert head(stored) == top
    row = list(snapshot.rows)[7]
    proof = tree.prove(key_of(salt, row.id))
    assert proof.present
    assert verify_membership(proof, top)
    assert proof.member is not None
    assert proof.member.key + proof.member.content == seal_of(salt, [(row.id, canonical_json(row))]).hex()
    absent = tree.prove(key_of(salt, row_id("never seen", "a")))
    assert not absent.present
    assert verify_membership(absent, top)
    assert row.id.removeprefix("sha256:") not in stored.hex()


def test_a_rows_own_terms_count_before_those_of_its_source(tmp_path: Path) -> None:
    objective = write(tmp_path, licence="CC-BY-4.0", year=2024, basis="contract", until="2031-05-01")
    row = read_sources(objective, tmp_path, SECRET).rows[0].provenance
    assert (row.license, row.collected, row.consent, row.retain_until) == ("CC-BY-4.0", "2024", "contract", date(2031, 5, 1))
    assert (row.origin, row.subject) == ("written for a test", pseudonym(SECRET, "acme", "ann"))
    plain = read_sources(write(tmp_path, licence=None, year=None, basis="", until=None), tmp_path, SECRET).rows[0].provenance
    assert (plain.license, plain.collected, plain.consent, plain.retain_until) == ("Apache-2.0", "2025", "public", None)


def test_a_rows_licence_that_clashes_with_the_use_blocks(tmp_path: Path) -> None:
    objective = write(tmp_path, licence="CC BY-NC 4.0", year=1, basis="x", until=None)
    with pytest.raises(DataInvalid) as refused:
        read_sources(objective, tmp_path, SECRET)
    assert refused.value.error_code == "license_clash"
    research = objective.model_copy(update={"business": objective.business.model_copy(update={"use": "research"})})
    assert len(read_sources(research, tmp_path, SECRET).rows) == 60
