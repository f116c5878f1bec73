"""People decide about rows that look wrong: keep, relabel, drop. The result is a new snapshot; an event holds the root of the decisions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from tailorbird import data
from tailorbird.auth import Action
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.crypto.merkle import Members, TreeHead, key_of
from tailorbird.domain.curation import Decision, FixAction, LabelSuspect
from tailorbird.domain.dataset import Quarantined, Row, SnapshotManifest
from tailorbird.domain.errors import InvalidInput, NotFound
from tailorbird.domain.value import Digest, Value
from tailorbird.usecases.anchored_rows import anchored_secret
from tailorbird.usecases.audit_events import Facts, permit, record
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.registry import PageSize, SnapshotName, usecase
from tailorbird.usecases.snapshots.snapshot_queries import PROVENANCE, Snapshot, find_snapshot, read_rows, report_of, rows_of
from tailorbird.usecases.storage_quota import storing


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
    permit(deps, actor, Action.READ_DATA, "data.suspects")
    with deps.ledger.work(actor.tenant, write=False) as work:
        found = find_snapshot(work, snapshot)
        decided = {decision.row for decision in work.decisions.of(found.manifest.objective)}
    ranked, skipped = _ranked(deps, found)
    rows = read_rows(deps, actor, found, "suspects")
    left = [each for each in ranked if each.row in rows and each.row not in decided]
    shown = tuple(_suspect(each, rows[each.row]) for each in left[:limit])
    return Suspects(snapshot=found.digest, suspects=shown, total=len(left), labels=_given(found.manifest), skipped=skipped)


@usecase("data.fix", "POST", "/api/snapshots/{snapshot}/decisions", Action.FIX_DATA)
def fix(
    deps: Dependencies, actor: Actor, snapshot: SnapshotName, fixes: Annotated[Sequence[Fix], Field(min_length=1, max_length=10_000)]
) -> Fixed:
    """Decide about rows; the result is a new snapshot.

    Decisions and snapshot are recorded in one transaction, with one event. Later snapshots of the files follow them too.
    Raises Forbidden, NotFound (a row is not in the snapshot), InvalidInput (a label that no row has, a row twice), DataInvalid (a split
    would be empty).
    """
    permit(deps, actor, Action.FIX_DATA, "data.fix")
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
    with storing(deps, actor.tenant) as store:
        result = data.rewrite_snapshot(found.manifest, store, lambda row: _amended(row, changes.get(row.id)), secret) if changes else None
    after = result.manifest if result else found.manifest
    counts = Counter(decision.action for decision in made)
    told = {"kept": counts[FixAction.KEEP], "relabelled": counts[FixAction.RELABEL], "dropped": counts[FixAction.DROP]}
    facts: Facts = {"parent": found.digest, "root": _root(made, data.salt_of(secret, found.manifest.objective)).root, **told}
    with deps.ledger.work(actor.tenant) as work:
        work.decisions.add(made)
        if result:
            work.records.put(after)
            work.splits.remember(after.objective, {row.id: (row.split.value, row.group) for _, row in result.changed})
        record(work, "data.decided", actor.name, digest_of(after), now, facts)
    return Fixed(digest=digest_of(after), manifest=after, **told)


def _root(made: Sequence[Decision], salt: bytes) -> TreeHead:
    """The root over decisions, one a row: with the salt, each can be proved to stand in the event that holds the root."""
    return Members((key_of(salt, each.row), bytes.fromhex(digest_of(each).removeprefix("sha256:"))) for each in made).head


def _ranked(deps: Dependencies, found: Snapshot) -> tuple[Sequence[LabelSuspect], str]:
    report = report_of(deps, found.manifest)
    return (report.suspects, report.suspects_skipped) if report else ((), "the snapshot was made by an earlier version: curate again")


def _suspect(ranked: LabelSuspect, row: Row) -> Suspect:
    return Suspect(text=row.text, **{name: getattr(ranked, name) for name in ("row", "given", "suggested", "score", "file", "line")})


def _given(manifest: SnapshotManifest) -> tuple[str, ...]:
    """What a row may be said to be: any of the labels, or, where the objective refuses such requests, none of them."""
    return (*manifest.labels, *([manifest.outside] if manifest.outside else []))


def _check(found: Snapshot, rows: dict[Digest, Row], fixes: Sequence[Fix]) -> None:
    labels = _given(found.manifest)
    if len({each.row for each in fixes}) < len(fixes):
        raise InvalidInput("a row is decided about twice in one call", "send one decision a row", code="row_repeated", param="fixes")
    for each in fixes:
        if each.row not in rows:
            raise NotFound("a decision is about a row that is not in the snapshot", "look at the ranking again", code="row_missing")
        if each.action is FixAction.RELABEL and not each.label:
            raise InvalidInput("relabelling needs a label", "give the label that is right", code="label_missing", param="label")
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
