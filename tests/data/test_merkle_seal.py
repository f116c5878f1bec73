"""The Merkle seal of a snapshot."""

from __future__ import annotations

import json
from pathlib import Path

from support.data import Store, make_objective
from tailorbird.crypto.canonical_json import canonical_json
from tailorbird.crypto.merkle import TreeHead, key_of, verify_membership
from tailorbird.data import BuiltSnapshot, SnapshotRequest, build_snapshot
from tailorbird.data.provenance import Amendments, head, members_of, salt_of, seal_of
from tailorbird.data.readers.sources import row_id
from tailorbird.domain.objective import Objective, TermColumns

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


def test_the_root_depends_on_what_rows_carry_and_on_the_secret(tmp_path: Path) -> None:
    roots = [built(write(tmp_path), tmp_path, secret=key).manifest.root for key in (SECRET, b"other")]
    roots.append(built(write(tmp_path, basis="contract"), tmp_path).manifest.root)
    assert len(set(roots)) == 3
    assert built(write(tmp_path), tmp_path).manifest.root == roots[0]
