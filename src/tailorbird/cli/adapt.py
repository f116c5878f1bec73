"""``tailorbird doctor``, ``plan`` and ``adapt``: from an objective to a decision, here or on a server."""

from __future__ import annotations

import signal
from collections import Counter
from itertools import groupby
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from tailorbird.cli.invocation import ExitStatus, command
from tailorbird.cli.session import (
    CommandSession,
    another_release,
    answer,
    demand_ending,
    err,
    narrated,
    open_session,
    out,
    print_json,
    say,
    show,
    show_remedies,
)
from tailorbird.crypto.canonical_json import digest_of, short
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.plan import Examination
from tailorbird.domain.release import ReleaseState
from tailorbird.domain.run import RunState
from tailorbird.reporting.ladder import ladder_reasons, ladder_table
from tailorbird.reporting.plan import plan_markdown, plan_table
from tailorbird.reporting.tables import confidence_text, document_html, gate_table
from tailorbird.sdk import TenantRun, TenantRuns, TenantTable
from tailorbird.sdk.progress import ProgressDisplay
from tailorbird.sdk.runs import ALL, adapt_here, follow, plan_run, submit_run
from tailorbird.usecases.releases.release_queries import show_release
from tailorbird.usecases.runs.queries import RunReport
from tailorbird.usecases.runs.submit import examine_objective

ObjectivePath = Annotated[Path, typer.Argument(help="Objective file.", metavar="OBJECTIVE")]
Why = Annotated[bool, typer.Option("--why", help="Also show the reason for every choice.")]
Tenants = Annotated[
    str,
    typer.Option(
        "--tenants",
        help='For many tenants, each on its own rows: a,b,c, a file with a name per line, or all. The objective says tenant: "{tenant}".',
        show_default=False,
    ),
]
#: A release in one of them stays so.
_FINAL = (ReleaseState.RETIRED, ReleaseState.REJECTED)

adapt = command()
plan = command()
doctor = command()


@adapt.command()
def _adapt(
    objective: ObjectivePath,
    tenants: Tenants = "",
    detach: Annotated[bool, typer.Option("--detach", help="Submit the run for a worker and return; follow it with runs show.")] = False,
    why: Why = False,
    again: Annotated[bool, typer.Option("--again", help="Repeat a run that ended without a release.")] = False,
) -> None:
    """Climb the ladder from the cheapest rung to the first that meets the objective, and draft the release. Interrupted runs resume.

    Exit status 4 when the climb ends without a release; with --tenants, when one of them does and none fails.
    """
    _end_cleanly_on_sigterm()
    session = open_session(names_tenants=bool(tenants))
    if tenants:
        for option, does in (("why", "--why explains one ladder"), ("again", "--again repeats one run")):
            if {"why": why, "again": again}[option]:
                hint = f"leave it out, or for one of them: tailorbird adapt OBJECTIVE --{option} --as TENANT/NAME"
                raise InvalidInput(f"{does}, and --tenants adapts for many", hint)
        _adapt_tenants(session, objective, tenants, detach=detach)
        return
    if detach:
        run = submit_run(session, objective, again=again)
        submitted = f"is left to workers; follow it: tailorbird runs show {run.id}"
        ended = f"has ended already ({run.state.word}), and nothing is left to do: tailorbird runs show {run.id}"
        show(run, f"run {run.id} of {run.objective_name} {submitted if run.state is RunState.ACTIVE else ended}")
        return
    with narrated(f"tailorbird adapt {objective}", elsewhere=bool(session.server)) as progress:
        if session.server:
            run = submit_run(session, objective, again=again)
            say(f"run {run.id} is the server's now; Ctrl-C leaves it going (tailorbird runs cancel {run.id} ends it)")
            report = follow(session, run, progress)
        else:
            report, resumed = adapt_here(session, objective, progress, again=again)
            if resumed == len(report.steps):
                say(f"run {report.run.id} was finished already: nothing was done again, this is its record")
            elif resumed:
                say(f"run {report.run.id} went on after {resumed} finished steps")
    assert report.conclusion is not None
    if session.as_json:
        print_json(report.conclusion)
    else:
        _show_climb(session, objective, report, why=why)
    if report.conclusion.release is None:
        raise typer.Exit(ExitStatus.NO_RELEASE)


def _end_cleanly_on_sigterm() -> None:
    """A polite end of the process is an interruption: the step in hand is given back, training keeps its checkpoint."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def _show_climb(session: CommandSession, objective: Path, report: RunReport, *, why: bool) -> None:
    ladder, conclusion = report.ladder, report.conclusion
    assert ladder is not None
    assert conclusion is not None
    out.print(ladder_table(ladder, report.objective))
    out.print(confidence_text(report.objective.business.risk))
    for reason in ladder_reasons(ladder) if why else ():
        out.print(f"  · {reason}")
    out.print(f"decision: {ladder.reason}")
    if not why:
        say("why each rung was climbed, passed over or not tried: the same command with --why")
    if report.test and report.gate and report.evidence:
        for earlier in report.looks[:-1]:
            out.print(f"\nsealed test (look {earlier.look}): not confirmed; {earlier.reason}")
        out.print(f"\nsealed test (look {report.test.look}, {report.evidence.n} items): {report.gate.verdict.value}")
        out.print(gate_table(report.gate))
    if (digest := conclusion.release) is None:
        out.print(f"\nno release: {conclusion.reason}")
        show_remedies(report.remedies)
        return
    state = session.ask(show_release, digest=digest).state
    if state in _FINAL:
        out.print(f"\nrelease {short(digest)} is {state.value}, which is final ({digest})")
        say(another_release(str(objective)))
    else:
        out.print(f"\nrelease {short(digest)} is signed and gated ({digest})")
        say(f"next: somebody else approves it: tailorbird release approve {short(digest)} --as {session.colleague('approver')}")


def _adapt_tenants(session: CommandSession, objective: Path, tenants: str, *, detach: bool) -> None:
    """Climbs for each tenant, or leaves the climbs to workers, and shows them all at the end.

    Raises InvalidInput for an identity that is named with a tenant, as it would be another one in the others; typer.Exit where a tenant
    failed or got no release.
    """
    if session.who and "/" in session.who and tenants != ALL:
        hint = f"name the identity alone, and it acts in each tenant with its key there: --as {session.name()}"
        raise InvalidInput(f"{session.who} is an identity of one tenant", hint)
    runs, found = TenantRuns(session, objective, tenants), list[TenantRun]()
    if detach:
        found += runs.submit()
    else:
        with narrated(f"tailorbird adapt {objective} --tenants {tenants}", elsewhere=bool(session.server)) as progress:
            try:
                for each in runs.adapt(progress):
                    found.append(each)
            except KeyboardInterrupt:
                progress.tell(f"{len(found)} of {len(runs.tenants)} tenants are done, and stay so")
                raise
    if session.as_json:
        print_json(found)
    else:
        out.print(TenantTable(found).table())
        if any(each.release for each in found):
            say("next: somebody else of each tenant approves it: tailorbird release approve RELEASE --as TENANT/approver")
    states = {each.state for each in found}
    if states & {"failed", "no_release"}:
        raise typer.Exit(ExitStatus.FAILED if "failed" in states else ExitStatus.NO_RELEASE)


@plan.command()
def _plan(
    objective: ObjectivePath,
    page: Annotated[Path | None, typer.Option("--html", help="Write the plan as an HTML page.", show_default=False)] = None,
    why: Why = False,
) -> None:
    """Show what adapt would train, in what order, at what cost, and why. Freezes data and downloads the base model; trains nothing."""
    demand_ending(page, ".html")
    session = open_session()
    with narrated(f"tailorbird plan {objective}", elsewhere=bool(session.server)) as progress:
        report = plan_run(session, objective, progress)
    found, ended = report.plan, report.conclusion
    assert found is not None
    if page is not None:
        page.write_text(document_html(plan_markdown(found, objective.stem)), encoding="utf-8")
        say(f"the page lies in {page}")
    answer(found)
    out.print(plan_table(found, why=why))
    if not why:
        say("why each rung is planned as it is, with sources: the same command with --why")
    if report.manifest is not None and report.manifest.quarantined:
        snapshot = short(digest_of(report.manifest))
        say(f"rows set aside: {report.manifest.quarantined:,}; which, and why each: tailorbird data show {snapshot} --set-aside")
    if ended is None or ended.release is None:
        say(f"next: tailorbird adapt {objective}")
        return
    state, digest = session.ask(show_release, digest=ended.release).state, short(ended.release)
    if state in _FINAL:
        say(f"this was adapted already: its release {digest} is {state.value}, which is final\n{another_release(str(objective))}")
    else:
        say(f"this was adapted already: release {digest} is {state.value}; tailorbird adapt {objective} shows how it came")


@doctor.command()
def _doctor(
    objective: ObjectivePath,
    rows: Annotated[int, typer.Option("--rows", help="Number of rows of the first batch to show.", min=0)] = 2,
) -> None:
    """Check the training job of an objective: mask, lengths, templates, labels, serving, settings. Exit status 1 on errors.

    The JSON holds the first batch with its rows' texts.
    """
    session = open_session()
    with ProgressDisplay(err) as progress:
        checkup = examine_objective(session.deps, session.actor(), objective, progress)
    if session.as_json:
        print_json(checkup)
    else:
        for refusal in checkup.left_out:
            out.print(f"{refusal.rung.value}: not planned: {refusal.reason}")
        for one in checkup.rungs:
            counted = Counter(finding.severity.value for finding in one.examination.findings)
            verdict = ", ".join(f"{count} {severity}" for severity, count in sorted(counted.items())) or "nothing found"
            out.print(f"\n{one.rung.rung.value} {one.rung.variant}: {verdict}")
            for name, number in one.examination.measured.items():
                shown = f"{number:,.0f}" if number == int(number) else f"{number:.3g}"
                out.print(f"  {name.replace('_', ' ')}: {shown}")
            for finding in one.examination.findings:
                out.print(f"  {finding.severity.value} [{finding.code}] {finding.what}", soft_wrap=True)
                out.print(f"    remedy: {finding.remedy}", soft_wrap=True)
        if rows and checkup.rungs:
            for line in ("", *batch_lines(checkup.rungs[0].examination, rows)):
                out.print(line, highlight=False, soft_wrap=True)
    if not checkup.healthy:
        raise typer.Exit(ExitStatus.FAILED)


def batch_lines(examination: Examination, rows: int) -> list[str]:
    """Rows of the first batch: their chunks that are read and learned in turn, with a bar between two tokens."""
    shown = examination.first_batch[:rows]
    lines = [f"the first batch, {len(shown)} of {len(examination.first_batch)} rows:"]
    for number, row in enumerate(shown, start=1):
        lines.append(f"  row {number}: {len(row)} tokens, {sum(token.learned for token in row)} of them learned")
        for learned, chunk in groupby(row, key=lambda token: token.learned):
            lines.append(f"    {'learned' if learned else 'read'}: {'│'.join(token.text.replace(chr(10), '⏎') for token in chunk)}")
    return lines


apps = {"adapt": adapt, "plan": plan, "doctor": doctor}
