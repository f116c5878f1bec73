"""Snapshots: list, show, compare and prove; decide about rows that look wrong. The log tells who saw texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date
from typing import Annotated

from pydantic import Field

from tailorbird import data
from tailorbird.auth import Action, ConcurrencyLimit
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.crypto.merkle import Members, Proof, TreeHead, key_of
from tailorbird.domain.curation import CurationReport, Decision, FixAction
from tailorbird.domain.dataset import Inspection, Quarantined, Row, SnapshotManifest, Split
from tailorbird.domain.erasure import Certificate, Erasure
from tailorbird.domain.errors import Conflict, InvalidInput, NotFound
from tailorbird.domain.objective import Objective
from tailorbird.domain.run import SNAPSHOT, StepState
from tailorbird.domain.value import Digest, Value
from tailorbird.ledger import UnitOfWork
from tailorbird.ledger.artifacts import ArtifactStore
from tailorbird.text.words import normalise
from tailorbird.usecases.anchored_rows import (
    anchored_decisions,
    anchored_erasures,
    anchored_records,
    anchored_run,
    anchored_secret,
    anchored_steps,
)
from tailorbird.usecases.audit_events import Facts, record
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.registry import PageSize, SnapshotName, usecase
from tailorbird.usecases.storage_quota import RelativePath, readable_upload, require_uploaded, storing

#: The name of the secret behind pseudonyms and salts.
PROVENANCE = "provenance"


def amendments_of(deps: Dependencies, objective: Objective) -> data.Amendments:
    """What the next snapshot of ``objective`` must heed."""
    with deps.ledger.work(objective.tenant) as work:
        return data.Amendments(
            secret=anchored_secret(work, PROVENANCE),
            erased=frozenset(erasure.subject for erasure in anchored_erasures(work)),
            decisions={decision.row: decision for decision in anchored_decisions(work, objective.name)},
            today=deps.clock.now().date(),
        )


def heeded_facts(work: UnitOfWork, objective: Objective, today: date) -> dict[str, list[str]]:
    """What makes another run of the same files and the same objective: erasures that touched its snapshots, decisions about its rows,
    retention that has ended. Empty where there is nothing of that, so that most runs are named by files and objective alone."""
    manifests = manifests_of(work, objective.name)
    stated = [source.source.retain_until for source in objective.data] + [source.source.retain_until for source in objective.documents]
    stated += [manifest.expires for manifest in manifests.values()]
    touched = (
        erasure.subject
        for erasure in anchored_erasures(work)
        if any(each.objective == objective.name for certificate in certificates_of(work, erasure) for each in certificate.snapshots)
    )
    facts = {
        "erased": sorted(touched),
        "decided": [f"{found.row} {found.action.value} {found.label}" for found in anchored_decisions(work, objective.name)],
        "retention": sorted({day.isoformat() for day in stated if day is not None and day < today}),
    }
    return {name: values for name, values in facts.items() if values}


def manifests_of(work: UnitOfWork, objective: str | None = None) -> dict[str, SnapshotManifest]:
    """Snapshots by digest, oldest first; only those of ``objective``, where given."""
    found = {digest: work.records.get(SnapshotManifest, digest) for digest in anchored_records(work, SnapshotManifest)}
    return {digest: manifest for digest, manifest in found.items() if objective in (None, manifest.objective)}


def certificates_of(work: UnitOfWork, erasure: Erasure) -> Iterator[Certificate]:
    """The certificates of an erasure, newest first: there are more than one where more was found, or could be destroyed, later."""
    digest = erasure.certificate
    while digest is not None:
        certificate = work.records.get(Certificate, digest)
        yield certificate
        digest = certificate.earlier


class Snapshot(Value):
    """A snapshot by its digest."""

    digest: Digest
    manifest: SnapshotManifest


def find_snapshot(work: UnitOfWork, name: str) -> Snapshot:
    """The snapshot whose digest is, or begins with, ``name``; else the newest of the objective ``name``; else that of the run
    ``name``; else that of the release ``name``.

    Raises NotFound.
    """
    known = manifests_of(work)
    plain = name.removeprefix("sha256:")
    begun = [digest for digest in known if digest.removeprefix("sha256:").startswith(plain)] if plain else []
    if len(begun) == 1:
        return Snapshot(digest=begun[0], manifest=known[begun[0]])
    named = [digest for digest, manifest in known.items() if manifest.objective == name]
    if named:
        return Snapshot(digest=named[-1], manifest=known[named[-1]])
    with suppress(NotFound):
        for step in anchored_run(work, name)[1]:
            if step.name == SNAPSHOT and step.state is StepState.DONE and step.result in known:
                return Snapshot(digest=step.result, manifest=known[step.result])
    with suppress(NotFound):
        learned_from = work.releases.get(name).content.snapshot
        return Snapshot(digest=learned_from, manifest=known[learned_from])
    by_name = "an objective is given by its `name`, not by its file; " if name.endswith((".yaml", ".yml")) else ""
    raise NotFound(
        f"no snapshot, release, objective or run {name[:80]} in {work.tenant}, or more than one",
        f"{by_name}list them with: tailorbird data list; make one with: tailorbird data curate OBJECTIVE",
    )


def present_of(work: UnitOfWork, artifacts: ArtifactStore, digest: Digest) -> SnapshotManifest:
    """The snapshot; where its rows were destroyed for somebody's sake, the one that was made from it without theirs. Raises NotFound."""
    found = work.records.get(SnapshotManifest, digest)
    if artifacts.exists(found.rows):
        return found
    certificates = (certificate for erasure in anchored_erasures(work) for certificate in certificates_of(work, erasure))
    news = {snapshot.old: snapshot.new for certificate in certificates for snapshot in certificate.snapshots}
    while digest in news and not artifacts.exists(found.rows):
        digest = news[digest]
        found = work.records.get(SnapshotManifest, digest)
    return found


def standing(work: UnitOfWork, manifest: SnapshotManifest) -> SnapshotManifest:
    """The snapshot that stands for ``manifest`` now: itself, or what was made from it when a person was erased, and so on."""
    children = {found.parent: found for found in manifests_of(work, manifest.objective).values() if found.parent}
    while (child := children.get(digest_of(manifest))) is not None:
        manifest = child
    return manifest


def objective_of(work: UnitOfWork, snapshot: Digest, name: str) -> Objective | None:
    """The objective of the newest run over ``snapshot``, or else of the newest run of that name."""
    runs = [run for run in work.runs.all() if run.objective_name == name]
    for run, steps in zip(runs, anchored_steps(work, *runs), strict=True):
        if any(step.result == snapshot for step in steps):
            return work.records.get(Objective, run.objective)
    return work.records.get(Objective, runs[0].objective) if runs else None


RowText = Annotated[str, Field(max_length=1_000_000)]
#: Rows named one by one in a difference.
NAMED = 100


class SnapshotView(Value):
    """A snapshot, how it was curated, and the snapshot that was made from it since, where there is one. ``set_aside`` are the rows that did
    not become part of it, by file and line, where they were asked for."""

    digest: Digest
    manifest: SnapshotManifest
    report: CurationReport
    followed_by: Digest | None
    set_aside: tuple[Quarantined, ...] = ()


class ChangedRow(Value):
    """A row of a difference, by its source; texts are for those who read the data."""

    file: str
    line: int
    split: Split
    before: str = ""
    after: str = ""


class SnapshotDifference(Value):
    """What ``other`` has that ``one`` had not, and the reverse. ``relabelled`` are rows with the text of before and another target (named
    where targets are labels). Of each at most 100 are named; ``counts`` says how many there are. ``moved`` counts rows in another split."""

    one: Digest
    other: Digest
    counts: dict[str, int]
    added: tuple[ChangedRow, ...]
    removed: tuple[ChangedRow, ...]
    relabelled: tuple[ChangedRow, ...]
    reasons: dict[str, int]


class RowPresence(Value):
    """A proof about one row, against the head of a snapshot; the key is salted. Check it with ``crypto/merkle.py``."""

    snapshot: Digest
    head: TreeHead
    proof: Proof


class SnapshotList(Value):
    """The tenant's snapshots, newest first."""

    snapshots: tuple[Snapshot, ...]


@usecase("data.list", "GET", "/api/snapshots", Action.SHOW_DATA)
def list_snapshots(deps: Dependencies, actor: Actor) -> SnapshotList:
    """List snapshots, newest first."""
    with deps.ledger.work(actor.tenant, write=False) as work:
        found = manifests_of(work)
    return SnapshotList(snapshots=tuple(Snapshot(digest=digest, manifest=manifest) for digest, manifest in reversed(found.items())))


@usecase("data.show", "GET", "/api/snapshots/{snapshot}", Action.SHOW_DATA)
def show_snapshot(deps: Dependencies, actor: Actor, snapshot: SnapshotName, set_aside: bool = False) -> SnapshotView:
    """Show a snapshot.

    With ``set_aside`` also the file, line and reason of every row that was set aside; no texts. Raises NotFound.
    """
    with deps.ledger.work(actor.tenant, write=False) as work:
        found = find_snapshot(work, snapshot)
        children = [digest for digest, manifest in manifests_of(work).items() if manifest.parent == found.digest]
    return SnapshotView(
        digest=found.digest,
        manifest=found.manifest,
        report=report_of(deps, found.manifest),
        followed_by=children[-1] if children else None,
        set_aside=data.load_quarantine(found.manifest, deps.artifacts) if set_aside else (),
    )


def report_of(deps: Dependencies, manifest: SnapshotManifest) -> CurationReport:
    """How a snapshot was curated."""
    return CurationReport.model_validate_json(deps.artifacts.get(manifest.curation))


def rows_of(deps: Dependencies, found: Snapshot) -> dict[Digest, Row]:
    """All rows of a snapshot, by id. Raises Conflict when they were destroyed because a person was erased."""
    if not deps.artifacts.exists(found.manifest.rows):
        raise Conflict(
            "the rows of this snapshot were destroyed: a person in it was erased",
            "look at the snapshot that was made from it: tailorbird data show names it",
        )
    return {row.id: row for row in map(Row.model_validate_json, data.stored_rows(found.manifest, deps.artifacts))}


def read_rows(deps: Dependencies, actor: Actor, found: Snapshot, why: str) -> dict[Digest, Row]:
    """The same for somebody who will see texts: the log tells who, and for what."""
    rows = rows_of(deps, found)
    with deps.ledger.work(actor.tenant) as work:
        record(work, "data.read", actor.name, found.digest, deps.clock.now(), {"why": why, "rows": len(rows)})
    return rows


@usecase("data.diff", "GET", "/api/snapshots/{snapshot}/diff", Action.SHOW_DATA)
def diff_snapshots(deps: Dependencies, actor: Actor, snapshot: SnapshotName, other: SnapshotName) -> SnapshotDifference:
    """Compare two snapshots, row by row.

    Told is what changed from ``snapshot`` to ``other``. Raises NotFound, Conflict (rows were destroyed).
    """
    with deps.ledger.work(actor.tenant, write=False) as work:
        before, after = find_snapshot(work, snapshot), find_snapshot(work, other)
    old, new = rows_of(deps, before), rows_of(deps, after)
    gone = {row: old[row] for row in old.keys() - new.keys()}
    come = {row: new[row] for row in new.keys() - old.keys()}
    texts = {normalise(row.text): row for row in gone.values()}
    pairs = [(texts[text], row) for row in come.values() if (text := normalise(row.text)) in texts]
    relabelled = list({was.id: (was, now) for was, now in pairs}.values())
    shown = bool(after.manifest.label_counts)
    reasons = Counter(entry.code for entry in data.load_quarantine(after.manifest, deps.artifacts))
    reasons.subtract(entry.code for entry in data.load_quarantine(before.manifest, deps.artifacts))
    for was, now in relabelled:
        del gone[was.id], come[now.id]
    return SnapshotDifference(
        one=before.digest,
        other=after.digest,
        counts={
            "same": len(old.keys() & new.keys()),
            "added": len(come),
            "removed": len(gone),
            "relabelled": len(relabelled),
            "moved": sum(old[row].split is not new[row].split for row in old.keys() & new.keys()),
        },
        added=_named(come),
        removed=_named(gone),
        relabelled=tuple(_changed(now, *((was.target, now.target) if shown else ())) for was, now in relabelled[:NAMED]),
        reasons={code: count for code, count in sorted(reasons.items()) if count},
    )


@usecase("data.prove", "POST", "/api/snapshots/{snapshot}/proofs", Action.READ_DATA)
def prove_row(deps: Dependencies, actor: Actor, snapshot: SnapshotName, text: RowText, target: RowText) -> RowPresence:
    """Prove that a row is in a snapshot, or that it is not.

    Raises NotFound, Conflict (no seal).
    """
    with deps.ledger.work(actor.tenant) as work:
        found, secret = find_snapshot(work, snapshot), anchored_secret(work, PROVENANCE)
    key = key_of(data.salt_of(secret, found.manifest.objective), data.row_id(text, target))
    proof = data.members_of(deps.artifacts.get(found.manifest.seal)).prove(key)
    return RowPresence(snapshot=found.digest, head=TreeHead(root=found.manifest.root, size=found.manifest.size), proof=proof)


def _named(rows: Mapping[Digest, Row]) -> tuple[ChangedRow, ...]:
    ordered = sorted(rows.values(), key=lambda row: (row.provenance.file, row.provenance.line))
    return tuple(_changed(row) for row in ordered[:NAMED])


def _changed(row: Row, before: str = "", after: str = "") -> ChangedRow:
    return ChangedRow(file=row.provenance.file, line=row.provenance.line, split=row.split, before=before, after=after)


class Suspect(Value):
    """A row whose label is likely wrong, with its text: for those who may read the data."""

    row: Digest
    text: str
    given: str
    suggested: str
    score: float
    file: str
    line: int


class Suspects(Value):
    """The likeliest label errors of a snapshot that nobody has decided about, likeliest first. ``total`` counts all that were found when it
    was built, ``skipped`` says what was not looked at then, and why. ``labels`` are those that a row may be given."""

    snapshot: Digest
    suspects: tuple[Suspect, ...]
    total: int
    labels: tuple[str, ...]
    skipped: str = ""


class Fix(Value):
    """What somebody decided about one row of a snapshot."""

    row: Digest
    action: FixAction
    label: Annotated[str, Field(max_length=500)] = ""


class Fixed(Value):
    """The snapshot that heeds the decisions; ``digest`` is that of before where all were to keep."""

    digest: Digest
    manifest: SnapshotManifest
    kept: int
    relabelled: int
    dropped: int


@usecase("data.suspects", "GET", "/api/snapshots/{snapshot}/suspects", Action.READ_DATA)
def suspects(deps: Dependencies, actor: Actor, snapshot: SnapshotName, limit: PageSize = 50) -> Suspects:
    """Read the likeliest label errors, with their texts.

    The ``limit`` likeliest of those that were found when the snapshot was built. Test rows are left out: who mends them by a model's advice
    measures the advice.

    Raises Forbidden, NotFound, Conflict (rows were destroyed).
    """
    with deps.ledger.work(actor.tenant, write=False) as work:
        found = find_snapshot(work, snapshot)
        decided = {decision.row for decision in work.decisions.of(found.manifest.objective)}
    ranked = report_of(deps, found.manifest)
    rows = read_rows(deps, actor, found, "suspects")
    left = [each for each in ranked.suspects if each.row in rows and each.row not in decided]
    names = ("row", "given", "suggested", "score", "file", "line")
    shown = tuple(Suspect(text=rows[each.row].text, **{name: getattr(each, name) for name in names}) for each in left[:limit])
    return Suspects(snapshot=found.digest, suspects=shown, total=len(left), labels=_given(found.manifest), skipped=ranked.suspects_skipped)


@usecase("data.fix", "POST", "/api/snapshots/{snapshot}/decisions", Action.FIX_DATA)
def fix(
    deps: Dependencies, actor: Actor, snapshot: SnapshotName, fixes: Annotated[Sequence[Fix], Field(min_length=1, max_length=10_000)]
) -> Fixed:
    """Decide about rows; the result is a new snapshot.

    Decisions and snapshot are recorded in one transaction, with one event. Later snapshots of the files follow them too.
    Raises Forbidden, NotFound (a row is not in the snapshot), InvalidInput (a label that no row has, a row twice), DataInvalid (a split
    would be empty).
    """
    with deps.ledger.work(actor.tenant) as work:
        found, secret = find_snapshot(work, snapshot), anchored_secret(work, PROVENANCE)
    rows = rows_of(deps, found)
    _check(found, rows, fixes)
    now = deps.clock.now()
    made = [
        Decision(objective=found.manifest.objective, row=each.row, action=each.action, label=each.label, by=actor.name, at=now)
        for each in fixes
    ]
    changes = {decision.row: decision for decision in made if decision.action is not FixAction.KEEP}
    with storing(deps, actor.tenant) as (store, _):
        result = data.rewrite_snapshot(found.manifest, store, lambda row: _amended(row, changes.get(row.id)), secret) if changes else None
    after = result.manifest if result else found.manifest
    counts = Counter(decision.action for decision in made)
    told = {"kept": counts[FixAction.KEEP], "relabelled": counts[FixAction.RELABEL], "dropped": counts[FixAction.DROP]}
    salt = data.salt_of(secret, found.manifest.objective)
    # With the salt, each decision can be proved to stand in the event that holds the root.
    root = Members((key_of(salt, each.row), bytes.fromhex(digest_of(each).removeprefix("sha256:"))) for each in made).head.root
    facts: Facts = {"parent": found.digest, "root": root, **told}
    with deps.ledger.work(actor.tenant) as work:
        work.decisions.add(made)
        if result:
            work.records.put(after)
            work.splits.remember(after.objective, {row.id: (row.split.value, row.group) for _, row in result.changed})
        record(work, "data.decided", actor.name, digest_of(after), now, facts)
    return Fixed(digest=digest_of(after), manifest=after, **told)


def _given(manifest: SnapshotManifest) -> tuple[str, ...]:
    """What a row may be said to be: any of the labels, or, where the objective refuses such requests, none of them."""
    return (*manifest.labels, *([manifest.outside] if manifest.outside else []))


def _check(found: Snapshot, rows: dict[Digest, Row], fixes: Sequence[Fix]) -> None:
    labels = _given(found.manifest)
    if len({each.row for each in fixes}) < len(fixes):
        raise InvalidInput("a row is decided about twice in one call", "send one decision a row", param="fixes")
    for each in fixes:
        if each.row not in rows:
            raise NotFound("a decision is about a row that is not in the snapshot", "look at the ranking again")
        if each.action is FixAction.RELABEL and not each.label:
            raise InvalidInput("relabelling needs a label", "give the label that is right", code="label_unknown", param="label")
        if each.action is FixAction.RELABEL and labels and each.label not in (*labels, *found.manifest.label_sets):
            hint = f"give one of: {', '.join(labels[:30])}"
            raise InvalidInput(f"no row of the snapshot has the label {each.label[:80]!r}", hint, code="label_unknown", param="label")


def _amended(row: Row, decision: Decision | None) -> Row | Quarantined:
    if decision is None:
        return row
    place = row.provenance
    if decision.action is FixAction.DROP:
        return Quarantined(file=place.file, line=place.line, code="dropped", reason=f"{decision.by} decided that it goes")
    after = place.model_copy(update={"transforms": (*place.transforms, f"relabel:{decision.by}")})
    return row.model_copy(update={"id": data.row_id(row.text, decision.label), "target": decision.label, "provenance": after})


#: Each has a confined process of its own; in all, and of one tenant.
_inspections = ConcurrencyLimit(4, 2, "files that are looked at", "inspections_at_once")


@usecase("data.inspect", "POST", "/api/data/inspect", Action.PLAN)
def inspect_uploaded(deps: Dependencies, actor: Actor, name: RelativePath, file: Digest) -> Inspection:
    """Look at an uploaded file.

    As if it were called ``name``. Raises NotFound, DataInvalid, Exhausted (others are being looked at).
    """
    require_uploaded(deps, actor.tenant, {name: file})
    with _inspections.turn(actor.tenant), readable_upload(deps, file, name) as place:
        return data.inspect_file(name, place.parents[name.count("/")], lambda _: None)
