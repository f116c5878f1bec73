"""The tamper-evident log, newest first, and whether it still holds."""

from __future__ import annotations

from fastapi.responses import Response

from tailorbird.console.rendering import PageContext
from tailorbird.domain.event import Checkpoint
from tailorbird.usecases.maintenance.audit import read_log, verify_log

ON_A_PAGE = 50


def show(visit: PageContext) -> Response:
    """A page of the log: before the index ``before``, about one ``subject`` or all."""
    before, subject = visit.query.get("before") or None, visit.query.get("subject", "").strip()
    found = visit.ask_form(read_log, limit=ON_A_PAGE, before=before, subject=subject)
    more = len(found.entries) == ON_A_PAGE
    return visit.page(
        "audit.html",
        found=found,
        subject=subject,
        before=before,
        older=found.entries[-1].index if more else None,
        checkpoint=_last_checkpoint(visit),
    )


def verify(visit: PageContext) -> Response:
    """Recomputes the whole log, and says what was found."""
    return visit.page("verified.html", report=visit.ask(verify_log))


def _last_checkpoint(visit: PageContext) -> Checkpoint | None:
    """Read after the control plane has shown the log; a checkpoint tells nothing about anybody's events."""
    with visit.deps.ledger.system(write=False) as system:
        return next(reversed(system.events.checkpoints()), None)
