"""The report of a snapshot as one page, and a look at a file that was uploaded."""

from __future__ import annotations

from collections import Counter

from tailorbird import data, reporting
from tailorbird.auth import Action, ConcurrencyLimit
from tailorbird.domain.dataset import Row
from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.inspection import Inspection
from tailorbird.domain.value import Digest, Value
from tailorbird.usecases.audit_events import permit
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.registry import SnapshotName, usecase
from tailorbird.usecases.snapshots import label_errors, snapshot_queries
from tailorbird.usecases.snapshots.snapshot_queries import Snapshot
from tailorbird.usecases.uploads import RelativePath, readable_upload, require_uploaded

#: Label errors shown with their texts.
EXAMPLES = 30
LEFT_OUT = "Left out: this copy is for people who do not read the data."


class HtmlReport(Value):
    """A document in HTML that needs nothing beside itself, and what it says for machines."""

    html: str
    facts: reporting.DataFacts


@usecase("data.report", "POST", "/api/snapshots/{snapshot}/report", Action.SHOW_DATA)
def report(deps: Dependencies, actor: Actor, snapshot: SnapshotName, examples: bool = False) -> HtmlReport:
    """Write its report: HTML, and the same for machines.

    With ``examples`` it shows texts of rows, to those who may read them, and the log tells. Raises Forbidden, NotFound, Conflict (the rows
    were destroyed).
    """
    permit(deps, actor, Action.READ_DATA if examples else Action.SHOW_DATA, "data.report")
    view = snapshot_queries.show_snapshot(deps, actor, snapshot)
    rows = snapshot_queries.rows_of(deps, Snapshot(digest=view.digest, manifest=view.manifest))
    shown, skipped = _suspects(deps, actor, view.digest) if examples else ((), LEFT_OUT)
    facts = reporting.DataFacts(
        digest=view.digest,
        manifest=view.manifest,
        curation=view.report,
        followed_by=view.followed_by,
        made_at=deps.clock.now(),
        sources=_sources(rows),
        reasons=dict(Counter(entry.code for entry in data.load_quarantine(view.manifest, deps.artifacts)).most_common()),
        transforms=dict(Counter(step.partition(":")[0] for row in rows.values() for step in row.provenance.transforms)),
        examples=tuple(
            reporting.LabelExample(text=each.text, given=each.given, suggested=each.suggested, score=each.score) for each in shown
        ),
        examples_skipped=skipped,
    )
    found = reporting.DataReport(facts=facts, lengths=tuple(len(row.text) for row in rows.values()))
    return HtmlReport(html=reporting.data_report(found), facts=facts)


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


def _suspects(deps: Dependencies, actor: Actor, digest: Digest) -> tuple[tuple[label_errors.Suspect, ...], str]:
    try:
        found = label_errors.suspects(deps, actor, digest, EXAMPLES)
    except TailorbirdError as error:
        return (), error.message
    return found.suspects, found.skipped


def _sources(rows: dict[Digest, Row]) -> tuple[reporting.SourceLine, ...]:
    """Whose rows these are and on what terms, most rows first."""
    places = Counter((p.file, p.origin, p.license, p.consent, p.collected) for p in (row.provenance for row in rows.values()))
    people: dict[str, set[str]] = {}
    for row in rows.values():
        if row.provenance.subject:
            people.setdefault(row.provenance.file, set()).add(row.provenance.subject)
    return tuple(
        reporting.SourceLine(
            file=file, origin=origin, license=license_, consent=consent, collected=collected, rows=count, people=len(people.get(file, ()))
        )
        for (file, origin, license_, consent, collected), count in places.most_common()
    )
