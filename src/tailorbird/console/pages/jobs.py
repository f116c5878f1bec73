"""Jobs: what is being done, how far it is, and by whom."""

from __future__ import annotations

from fastapi.responses import Response

from tailorbird.auth import Action
from tailorbird.console.rendering import PageContext, see_other
from tailorbird.usecases.runs.run_queries import cancel_run, list_jobs, show_job


def show_all(visit: PageContext) -> Response:
    """All jobs."""
    return visit.page("jobs.html", jobs=visit.ask(list_jobs).jobs, may_cancel=visit.may(Action.CANCEL_RUN))


def confirm_cancel(visit: PageContext) -> Response:
    """Asks before cancelling."""
    job = visit.ask(show_job, run=visit.named("run"))
    told = ("The step in hand ends within a few seconds.", "What is finished stays: adapting again goes on from there.")
    return visit.page(
        "confirm.html",
        title=f"Cancel run {job.run.id} of {job.run.objective_name}",
        told=told,
        button="Cancel the run",
        back="/console/jobs",
        ask_reason=False,
    )


def cancel(visit: PageContext) -> Response:
    """Cancels."""
    return see_other(f"/console/runs/{visit.ask(cancel_run, run=visit.named('run')).id}")
