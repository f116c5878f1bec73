"""``tailorbird runs``, ``evidence`` and ``compare``: what was tried, what is being done, and on what grounds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tailorbird.cli.invocation import command, command_group, tell
from tailorbird.cli.session import (
    CommandSession,
    answer,
    demand_ending,
    json_text,
    list_verb,
    open_session,
    out,
    print_table,
    say,
    show,
    show_remedies,
)
from tailorbird.domain.errors import NotFound
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.run import Step, StepState
from tailorbird.reporting.documents import evidence_markdown
from tailorbird.reporting.tables import RUN_COLUMNS, STEP_COLUMNS, contrast_table, document_html, human_seconds
from tailorbird.usecases.runs import queries
from tailorbird.usecases.runs.queries import cancel_run, list_runs, show_evidence, show_run

runs = command_group("List, show, allow and cancel runs.")
Reason = Annotated[str, typer.Option("--reason", help="Reason, for the audit log.")]
RunArgument = Annotated[str, typer.Argument(help="Id of the run, or its prefix.", metavar="RUN")]


list_verb(runs, list_runs, RUN_COLUMNS, "List the tenant's runs, newest first.", newest="runs")


@runs.command("show")
def _show_run(run: RunArgument) -> None:
    """Show a run's steps, and how far the one in hand is."""
    report = open_session().ask(show_run, run=run)
    answer(report)
    say(f"run {report.run.id} of {report.run.objective_name}: {report.run.state.word}")
    print_table(STEP_COLUMNS, report.steps)
    for name, origin in report.reused.items():
        say(f"{name}: reused from run {origin.run}, {human_seconds(origin.seconds)} then ({origin.at:%Y-%m-%d %H:%M} UTC)")
    for step in report.steps:
        if step.state is StepState.LEASED:
            out.print(f"step {step.name} by {step.owner}, attempt {step.attempts}: {_how_far(step)}")
        if step.error is not None:
            say(f"step {step.name} failed: error[{step.error}]{f': {step.message}' if step.message else ''}")
            if step.hint:
                say(f"hint: {step.hint}")
    if report.conclusion is not None and report.conclusion.release is None:
        say(f"no release: {report.conclusion.reason}")
        show_remedies(report.remedies)


@runs.command("allow")
def _allow(run: RunArgument, reason: Reason = "") -> None:
    """Allow full fine-tuning for a high-risk run. Its author cannot."""
    found = open_session().ask(queries.allow, run=run, rung=RungKind.FULL, reason=reason)
    show(found, f"run {found.run} may climb {found.rung.value}; its author adapts again")


@runs.command("cancel")
def _cancel(run: RunArgument) -> None:
    """Cancel a run. The current step stops within seconds; finished steps are kept, and adapt resumes there."""
    cancelled = open_session().ask(cancel_run, run=run)
    show(cancelled, f"run {cancelled.id} of {cancelled.objective_name} is {cancelled.state.word}")


def _how_far(step: Step) -> str:
    seen = step.progress
    if seen is None:
        return ""
    counted = f" {seen.done}/{seen.total}" if seen.total else ""
    loss = f", loss {seen.training.loss:.3f}" if seen.training else ""
    return f"{seen.text}{counted}{loss}"


evidence = command()
compare = command()


@evidence.command()
def _evidence(
    run: Annotated[str, typer.Argument(help="Id of the run, or its prefix; the newest where none is named.", metavar="[RUN]")] = "",
    to: Annotated[Path | None, typer.Option("--to", help="File to write: .html, .json, or Markdown in .md or .txt.")] = None,
) -> None:
    """Show the evidence for a run's decision on one page: ladder, intervals, costs, forgetting, and rungs not tried."""
    demand_ending(to, ".html", ".json", ".md", ".txt")
    session = open_session()
    facts = session.ask(show_evidence, run=run or _newest(session))
    if to is None:
        answer(facts)
        tell(evidence_markdown(facts))
    else:
        form = to.suffix.lower()
        page = json_text(facts) if form == ".json" else evidence_markdown(facts)
        page = document_html(page) if form == ".html" else page
        to.write_text(page, encoding="utf-8")
        say(f"written to {to}")


def _newest(session: CommandSession) -> str:
    """The tenant's newest run. Raises NotFound."""
    newest = session.ask(list_runs, limit=1).runs
    if not newest:
        raise NotFound("there is no run yet", "make one: tailorbird adapt OBJECTIVE", code="run_missing")
    say(f"run {newest[0].id} of {newest[0].objective_name}, the newest")
    return newest[0].id


@compare.command()
def _compare(
    one: Annotated[str, typer.Argument(help="Run (its chosen candidate), RUN:RUNG, or digest of a candidate or release.", metavar="A")],
    other: Annotated[str, typer.Argument(help="Second one, named likewise.", metavar="B")],
) -> None:
    """Compare two candidates, in pairs over shared items: intervals, costs, forgetting."""
    found = open_session().ask(queries.compare, one=one, other=other)
    answer(found)
    out.print(contrast_table(found))
    for remark in found.remarks:
        out.print(f"  · {remark}")


apps = {"runs": runs, "evidence": evidence, "compare": compare}
