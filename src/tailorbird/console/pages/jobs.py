"""Jobs: what is being done, how far it is, and by whom.

In: a session. Out: pages. Must not know: how work is shared out.
"""

from __future__ import annotations

from fastapi.responses import Response

from tailorbird.access import Action
from tailorbird.console.visit import Visit, see_other
from tailorbird.lifecycle.control import runs


def show_all(visit: Visit) -> Response:
    """All jobs."""
    return visit.page("jobs.html", jobs=visit.ask(runs.JOBS).jobs, may_cancel=visit.may(Action.CANCEL_RUN))


def confirm_cancel(visit: Visit) -> Response:
    """Asks before cancelling."""
    job = visit.ask(runs.JOB, run=visit.named("run"))
    told = ("The step in hand ends within a few seconds.", "What is finished stays: adapting again goes on from there.")
    return visit.page(
        "confirm.html",
        title=f"Cancel run {job.run.id} of {job.run.objective_name}",
        told=told,
        button="Cancel the run",
        back="/console/jobs",
        ask_reason=False,
    )


def cancel(visit: Visit) -> Response:
    """Cancels."""
    return see_other(f"/console/runs/{visit.ask(runs.CANCEL, run=visit.named('run')).id}")
