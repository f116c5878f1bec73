"""``tailorbird runs``: what was tried, and how it stands."""

from __future__ import annotations

from typing import Annotated

import typer

from tailorbird.access import Action
from tailorbird.cli.session import As, AsJson, Key, Workspace, open_session, print_json, print_table, say
from tailorbird.foundations.canonical import short
from tailorbird.lifecycle.journal import permit

runs = typer.Typer(no_args_is_help=True)


@runs.callback()
def _runs() -> None:
    """List runs, and show one."""


@runs.command("list")
def _list(workspace: Workspace = None, who: As = None, key: Key = None, as_json: AsJson = False) -> None:
    """List the tenant's runs, newest first."""
    session = open_session(workspace, who, key)
    permit(session.parts, session.actor(), Action.SHOW_RUN)
    with session.parts.ledger.work(session.tenant, write=False) as work:
        known = work.runs.all()
    if as_json:
        print_json(known)
        return
    rows = [(run.id, run.objective_name, run.state.value, run.created_by, f"{run.created_at:%Y-%m-%d %H:%M}") for run in known]
    print_table(("run", "objective", "state", "by", "since"), rows)


@runs.command("show")
def _show(
    run: Annotated[str, typer.Argument(help="Id of the run, or how it begins.")],
    workspace: Workspace = None,
    who: As = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show the steps of a run."""
    session = open_session(workspace, who, key)
    permit(session.parts, session.actor(), Action.SHOW_RUN, run)
    with session.parts.ledger.work(session.tenant, write=False) as work:
        found = work.runs.get(run)
        steps = work.steps.of(found.id)
    if as_json:
        print_json(steps)
        return
    say(f"run {found.id} of {found.objective_name}: {found.state.value}")
    rows = [(s.name, s.state.value, f"{s.seconds:.1f} s", short(s.result) if s.result else (s.error or "")) for s in steps]
    print_table(("step", "state", "time", "result"), rows)


apps = {"runs": runs}
