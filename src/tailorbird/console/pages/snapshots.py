"""Snapshots of data, and the likeliest label errors of one, to be decided about."""

from __future__ import annotations

from fastapi.responses import Response

from tailorbird.auth import Action
from tailorbird.console.rendering import PageContext, Paging, see_other
from tailorbird.crypto.canonical_json import short
from tailorbird.domain.curation import FixAction
from tailorbird.usecases.snapshots import label_errors
from tailorbird.usecases.snapshots.snapshot_queries import list_snapshots, show_snapshot

#: Snapshots, and rows to be decided about, on a page. A row takes two fields of the form.
ON_A_PAGE, AT_ONCE = 50, 8


def show_all(visit: PageContext) -> Response:
    """Snapshots, newest first. Those that others were made from are no longer worked on."""
    found = visit.ask(list_snapshots).snapshots
    parents = {one.manifest.parent for one in found}
    paging = Paging.of(visit.query, len(found), ON_A_PAGE)
    workable = {one.digest for one in found if one.digest not in parents and one.manifest.label_counts} if _may_fix(visit) else set()
    return visit.page("snapshots.html", snapshots=paging.cut(found), workable=workable, paging=paging)


def show_labels(visit: PageContext) -> Response:
    """The likeliest label errors that nobody has decided about, in the snapshot that stands for the one that is named."""
    asked = visit.named("snapshot")
    newest = _newest(visit, asked)
    if short(newest, 64) != asked:
        return see_other(_address(newest))
    view = visit.ask(show_snapshot, snapshot=asked)
    suspects = visit.ask(label_errors.suspects, snapshot=asked, limit=AT_ONCE)
    return visit.page("labels.html", view=view, suspects=suspects)


def decide(visit: PageContext) -> Response:
    """Files what was decided, all at once, and goes on with the snapshot that heeds it."""
    newest = _newest(visit, visit.named("snapshot"))
    fixes = [
        _fix(visit, name.removeprefix("action:"), action) for name, action in visit.form.items() if name.startswith("action:") and action
    ]
    if not fixes:
        return see_other(_address(newest))
    return see_other(_address(visit.ask_form(label_errors.fix, snapshot=newest, fixes=fixes).digest))


def _fix(visit: PageContext, row: str, action: str) -> dict[str, str]:
    label = visit.form.get(f"label:{row}", "") if action == FixAction.RELABEL.value else ""
    return {"row": row, "action": action, "label": label}


def _newest(visit: PageContext, snapshot: str) -> str:
    """The digest of what stands for ``snapshot`` now: somebody may have decided in the meantime."""
    view = visit.ask(show_snapshot, snapshot=snapshot)
    while view.followed_by is not None:
        view = visit.ask(show_snapshot, snapshot=view.followed_by)
    return view.digest


def _address(digest: str) -> str:
    return f"/console/data/{short(digest, 64)}/labels"


def _may_fix(visit: PageContext) -> bool:
    return visit.may(Action.READ_DATA) and visit.may(Action.FIX_DATA)
