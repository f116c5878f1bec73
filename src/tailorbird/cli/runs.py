"""``tailorbird runs`` and ``tailorbird jobs``: what was tried, what is being done, and how it stands."""

from __future__ import annotations

from typing import Annotated

import typer

from tailorbird.cli.groups import command_group
from tailorbird.cli.session import open_session, out, print_json, print_table, say, show_remedies
from tailorbird.crypto.canonical_json import short
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.run import Step
from tailorbird.reporting import human_seconds
from tailorbird.usecases.runs.run_queries import Job, cancel_run, list_jobs, list_runs, show_job, show_run
from tailorbird.usecases.steps import rung_approval

runs = command_group()
jobs = command_group()
Reason = Annotated[str, typer.Option("--reason", help="Reason, for the audit log.")]
RunArgument = Annotated[str, typer.Argument(help="Id of the run, or its prefix.", metavar="RUN")]


@runs.callback()
def _runs() -> None:
    """List, show and allow runs."""


@jobs.callback()
def _jobs() -> None:
    """List, show and cancel queued and running jobs."""


@runs.command("list")
def _list_runs(
    limit: Annotated[int, typer.Option(help="Number of newest runs.", min=1, max=1000)] = 50,
) -> None:
    """List the tenant's runs, newest first."""
    session = open_session()
    page = session.ask(list_runs, limit=limit)
    if session.as_json:
        print_json(page.runs)
        return
    rows = [(run.id, run.objective_name, run.state.word, run.created_by, f"{run.created_at:%Y-%m-%d %H:%M}") for run in page.runs]
    print_table(("run", "objective", "state", "by", "since"), rows)
    if page.total > len(page.runs):
        say(f"{page.total - len(page.runs)} older runs: --limit N")


@runs.command("show")
def _show_run(run: RunArgument) -> None:
    """Show a run's steps."""
    session = open_session()
    report = session.ask(show_run, run=run)
    if session.as_json:
        print_json(report)
        return
    say(f"run {report.run.id} of {report.run.objective_name}: {report.run.state.word}")
    rows = [(s.name, s.state.value, f"{s.seconds:.1f} s", short(s.result) if s.result else (s.error or "")) for s in report.steps]
    print_table(("step", "state", "time", "result"), rows)
    for name, origin in report.reused.items():
        say(f"{name}: reused from run {origin.run}, {human_seconds(origin.seconds)} then ({origin.at:%Y-%m-%d %H:%M} UTC)")
    for step in report.steps:
        _say_why(step)
    if report.conclusion is not None and report.conclusion.release is None:
        say(f"no release: {report.conclusion.reason}")
        show_remedies(report.remedies)


@runs.command("allow")
def _allow(run: RunArgument, reason: Reason = "") -> None:
    """Allow full fine-tuning for a high-risk run. Its author cannot."""
    session = open_session()
    found = session.ask(rung_approval.allow, run=run, rung=RungKind.FULL, reason=reason)
    if session.as_json:
        print_json(found)
        return
    out.print(f"run {found.run} may climb {found.rung.value}; its author adapts again", markup=False)


@jobs.command("list")
def _list_jobs() -> None:
    """List queued and running jobs."""
    session = open_session()
    found = session.ask(list_jobs)
    if session.as_json:
        print_json(found.jobs)
        return
    rows = [(j.run.id, j.run.objective_name, _state(j), j.step.name if j.step else "", _how_far(j.step)) for j in found.jobs]
    print_table(("run", "objective", "state", "step", "how far"), rows)


@jobs.command("show")
def _show_job(run: RunArgument) -> None:
    """Show a job's progress and its worker."""
    session = open_session()
    found = session.ask(show_job, run=run)
    if session.as_json:
        print_json(found)
        return
    out.print(
        f"run {found.run.id} of {found.run.objective_name}: {_state(found)}, {found.done} steps done in {found.seconds:.0f} s", markup=False
    )
    if found.step is not None:
        holder = f" by {found.step.owner}, attempt {found.step.attempts}" if found.working else ""
        out.print(f"step {found.step.name}{holder}: {_how_far(found.step) or found.step.state.value}", markup=False)
        _say_why(found.step)


@jobs.command("cancel")
def _cancel(run: RunArgument) -> None:
    """Cancel a run. The current step stops within seconds; finished steps are kept, and adapt resumes there."""
    session = open_session()
    cancelled = session.ask(cancel_run, run=run)
    if session.as_json:
        print_json(cancelled)
        return
    out.print(f"run {cancelled.id} of {cancelled.objective_name} is {cancelled.state.word}", markup=False)


def _say_why(step: Step) -> None:
    """Why a step failed, and what to do next."""
    if step.error is not None:
        say(f"step {step.name} failed: error[{step.error}]{f': {step.message}' if step.message else ''}")
        if step.hint:
            say(f"hint: {step.hint}")


def _state(job: Job) -> str:
    return "working" if job.working else "waiting" if job.run.state.value in ("active", "planning") else job.run.state.word


def _how_far(step: Step | None) -> str:
    seen = step.progress if step else None
    if seen is None:
        return ""
    counted = f" {seen.done}/{seen.total}" if seen.total else ""
    loss = f", loss {seen.training.loss:.3f}" if seen.training else ""
    return f"{seen.text}{counted}{loss}"


apps = {"runs": runs, "jobs": jobs}
