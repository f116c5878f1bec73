"""``tailorbird audit``: the tamper-evident log."""

from __future__ import annotations

from typing import Annotated

import typer

from tailorbird.access import Action
from tailorbird.cli.session import As, AsJson, Key, Workspace, open_session, out, print_json, print_table, say
from tailorbird.foundations.canonical import short
from tailorbird.lifecycle.audit import make_checkpoint, verify_log
from tailorbird.lifecycle.journal import permit

audit = typer.Typer(no_args_is_help=True)


@audit.callback()
def _audit() -> None:
    """Verify, sign and read the tamper-evident log."""


@audit.command("verify")
def _verify(workspace: Workspace = None, who: As = None, key: Key = None, as_json: AsJson = False) -> None:
    """Recompute the whole log and check every checkpoint. Exit status 1 when anything is wrong."""
    session = open_session(workspace, who, key)
    report = verify_log(session.parts, session.actor())
    if as_json:
        print_json(report)
    elif report.intact:
        out.print(f"the log is intact: {report.size} events, {report.checkpoints} checkpoints, head {report.root[:16]}", markup=False)
    for problem in report.problems:
        say(f"problem: {problem}")
    if not report.intact:
        raise typer.Exit(1)


@audit.command("checkpoint")
def _checkpoint(workspace: Workspace = None, who: As = None, key: Key = None) -> None:
    """Sign the log's present head; keep the printed note off this machine."""
    session = open_session(workspace, who, key)
    typer.echo(make_checkpoint(session.parts, session.actor("admin")).note, nl=False)


@audit.command("log")
def _log(
    workspace: Workspace = None,
    who: As = None,
    key: Key = None,
    last: Annotated[int, typer.Option(help="How many of the newest entries.", min=1)] = 30,
    as_json: AsJson = False,
) -> None:
    """Show the newest entries of the log that concern this tenant."""
    session = open_session(workspace, who, key)
    permit(session.parts, session.actor(), Action.VERIFY_AUDIT)
    with session.parts.ledger.work(session.tenant, write=False) as work:
        entries = list(work.events.entries())[-last:]
    if as_json:
        print_json(entries)
        return
    rows = [(str(e.index), f"{e.event.at:%H:%M:%S}", e.event.actor, e.event.kind, _brief(e.event.subject)) for e in entries]
    print_table(("entry", "time", "who", "what", "subject"), rows)


def _brief(subject: str) -> str:
    return short(subject) if subject.startswith("sha256:") else subject


apps = {"audit": audit}
