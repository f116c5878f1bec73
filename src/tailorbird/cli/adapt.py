"""``tailorbird adapt``: from an objective to a decision, here or on a server."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from tailorbird.cli.groups import command
from tailorbird.cli.invocation import ExitStatus, told_if_interrupted
from tailorbird.cli.progress import ProgressDisplay
from tailorbird.cli.session import CommandSession, another_release, err, open_session, out, print_json, say, show_remedies
from tailorbird.cli.tenant_runs import Tenants, adapt_tenants
from tailorbird.crypto.canonical_json import short
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.ladder import Ladder
from tailorbird.domain.release import ReleaseState
from tailorbird.domain.run import Run, RunState
from tailorbird.domain.value import Digest
from tailorbird.reporting import confidence_text, gate_table, ladder_reasons, ladder_table
from tailorbird.sdk.remote_runs import follow, submit_file
from tailorbird.usecases import Progress
from tailorbird.usecases.releases.release_queries import show_release
from tailorbird.usecases.runs import submit as climbing
from tailorbird.usecases.runs.run_queries import RunReport, show_run

ObjectivePath = Annotated[Path, typer.Argument(help="Objective file.", metavar="OBJECTIVE")]
Detach = Annotated[bool, typer.Option("--detach", help="Submit the run for a worker and return; follow it with jobs show.")]

Why = Annotated[bool, typer.Option("--why", help="Also show the reason for every choice.")]

Again = Annotated[
    bool, typer.Option("--again", help="Repeat a run without a release that failed in part, or missed what answering may take.")
]

adapt = command()


@adapt.command()
def _adapt(
    objective: ObjectivePath,
    tenants: Tenants = "",
    detach: Detach = False,
    why: Why = False,
    again: Again = False,
) -> None:
    """Climb the ladder from the cheapest rung to the first that meets the objective, and draft the release. Interrupted runs resume.

    Exit status 4 when the climb ends without a release; with --tenants, when one of them does and none fails.
    """
    _end_cleanly_on_sigterm()
    session = open_session(names_tenants=bool(tenants))
    if tenants:
        if why:
            hint = "leave it out; why, for one of them: tailorbird adapt OBJECTIVE --why --as TENANT/NAME"
            raise InvalidInput("--why explains one ladder, and --tenants climbs many", hint, code="tenants_options")
        if again:
            hint = "leave it out; again, for one of them: tailorbird adapt OBJECTIVE --again --as TENANT/NAME"
            raise InvalidInput("--again repeats one run, and --tenants adapts for many", hint, code="tenants_options")
        adapt_tenants(session, objective, tenants, detach=detach)
        return
    if detach:
        run = _detached(session, objective, again=again)
        print_json(run) if session.as_json else _show_detached(run)
        return
    with narrated(session, f"tailorbird adapt {objective}") as progress:
        worked = _worked_there if session.server else _worked_here
        report = worked(session, objective, progress, again=again)
    assert report.conclusion is not None
    if session.as_json:
        print_json(report.conclusion)
    else:
        _show(session, objective, report, why=why)
    if report.conclusion.release is None:
        raise typer.Exit(ExitStatus.NO_RELEASE)


@contextmanager
def narrated(session: CommandSession, command: str) -> Iterator[Progress]:
    """Progress on stderr while the body works; an interruption says what is kept, and that ``command`` goes on."""
    narrator = ProgressDisplay(err)
    with told_if_interrupted(narrator, command, elsewhere=bool(session.server)), narrator as progress:
        yield progress


def _worked_here(session: CommandSession, objective: Path, progress: Progress, *, again: bool) -> RunReport:
    ended = climbing.adapt(session.deps, session.actor(), objective, progress, again=again)
    if ended.resumed == len(ended.steps):
        say(f"run {ended.run.id} was finished already: nothing was done again, this is its record")
    elif ended.resumed:
        say(f"run {ended.run.id} went on after {ended.resumed} finished steps")
    return session.ask(show_run, run=ended.run.id)


def _worked_there(session: CommandSession, objective: Path, progress: Progress, *, again: bool) -> RunReport:
    run = submit_file(session, objective, "adapt", again=again)
    say(f"run {run.id} is the server's now; Ctrl-C leaves it going (tailorbird jobs cancel {run.id} ends it)")
    return follow(session, run, progress)


def _detached(session: CommandSession, objective: Path, *, again: bool) -> Run:
    if session.server:
        return submit_file(session, objective, "adapt", again=again)
    return climbing.submit(session.deps, session.actor(), objective, RunState.ACTIVE, again=again)


def _show_detached(run: Run) -> None:
    """What is done with the run next: nothing, where it had ended before."""
    submitted = f"is left to workers; follow it: tailorbird jobs show {run.id}"
    ended = f"has ended already ({run.state.word}), and nothing is left to do: tailorbird runs show {run.id}"
    out.print(f"run {run.id} of {run.objective_name} {submitted if run.state is RunState.ACTIVE else ended}", markup=False)


def _end_cleanly_on_sigterm() -> None:
    """A polite end of the process is an interruption: the step in hand is given back, training keeps its checkpoint."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def _show(session: CommandSession, objective: Path, report: RunReport, *, why: bool) -> None:
    ladder, conclusion = report.ladder, report.conclusion
    assert ladder is not None
    assert conclusion is not None
    _show_ladder(report, ladder, why=why)
    if report.test and report.gate and report.evidence:
        for earlier in report.looks[:-1]:
            out.print(f"\nsealed test (look {earlier.look}): not confirmed; {earlier.reason}", markup=False)
        out.print(f"\nsealed test (look {report.test.look}, {report.evidence.n} items): {report.gate.verdict.value}", markup=False)
        out.print(gate_table(report.gate))
    if conclusion.release is None:
        out.print(f"\nno release: {conclusion.reason}", markup=False)
        show_remedies(report.remedies)
        return
    _show_release(objective, conclusion.release, session.ask(show_release, digest=conclusion.release).state, session.colleague("approver"))


def _show_ladder(report: RunReport, ladder: Ladder, *, why: bool) -> None:
    out.print(ladder_table(ladder, report.objective))
    out.print(confidence_text(report.objective.business.risk), markup=False)
    for reason in ladder_reasons(ladder) if why else ():
        out.print(f"  · {reason}", markup=False)
    out.print(f"decision: {ladder.reason}", markup=False)
    if not why:
        say("why each rung was climbed, passed over or not tried: the same command with --why")


def _show_release(objective: Path, digest: Digest, state: ReleaseState, approver: str) -> None:
    if state in (ReleaseState.RETIRED, ReleaseState.REJECTED):
        out.print(f"\nrelease {short(digest)} is {state.value}, which is final ({digest})", markup=False)
        say(another_release(str(objective)))
        return
    out.print(f"\nrelease {short(digest)} is signed and gated ({digest})", markup=False)
    say(f"next: somebody else approves it: tailorbird release approve {short(digest)} --as {approver}")


apps = {"adapt": adapt}
