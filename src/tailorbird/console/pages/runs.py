"""Runs, and one run with its ladder, plan, steps, sealed test and gate."""

from __future__ import annotations

from fastapi.responses import Response

from tailorbird.auth import Action
from tailorbird.console.rendering import PageContext, Paging
from tailorbird.reporting import comparison_lines, evidence_html, ladder_chart, power_lines, traffic_lines
from tailorbird.usecases.runs import evidence
from tailorbird.usecases.runs.run_queries import OPEN, Job, list_runs, show_job, show_run

ON_A_PAGE = 50


def show_all(visit: PageContext) -> Response:
    """Runs, newest first."""
    asked = Paging.of(visit.query, 0, ON_A_PAGE)
    found = visit.ask(list_runs, limit=ON_A_PAGE, skip=asked.skip)
    return visit.page("runs.html", runs=found.runs, paging=Paging(found.total, asked.skip, ON_A_PAGE))


def show(visit: PageContext) -> Response:
    """One run. While it is worked on, the page keeps itself up to date."""
    report = visit.ask(show_run, run=visit.named("run"))
    job, plan = visit.ask(show_job, run=report.run.id), report.plan
    return visit.page(
        "run.html",
        report=report,
        chart=ladder_chart(report.objective, report.ladder, plan=plan, climbs=report.climbs) if plan else None,
        traffic=traffic_lines(plan) if plan else [],
        proofs=[*power_lines(plan), *comparison_lines(plan)] if plan else [],
        job=job,
        live=report.run.state in OPEN,
        stamp=_stamp(job),
        may_cancel=visit.may(Action.CANCEL_RUN),
    )


def show_evidence(visit: PageContext) -> Response:
    """The evidence page as a file of its own: it brings its styles along, which pages of the console may not."""
    facts = visit.ask(evidence.show_evidence, run=visit.named("run"))
    name = f"evidence-{facts.objective.name}-{facts.run}.html"
    return Response(evidence_html(facts), media_type="text/html", headers={"content-disposition": f'attachment; filename="{name}"'})


def show_progress(visit: PageContext) -> Response:
    """The step in hand alone, for a page that is open."""
    job = visit.ask(show_job, run=visit.named("run"))
    return visit.page("_progress.html", job=job, live=job.run.state in OPEN, stamp=_stamp(job))


def _stamp(job: Job) -> str:
    """Changes whenever more of the page than its progress has changed."""
    return f"{job.run.state.value} {job.done}"
