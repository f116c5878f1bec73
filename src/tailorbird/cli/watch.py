"""``tailorbird watch``: are messages, answers, the service and the data still what they were?"""

from __future__ import annotations

from typing import Annotated

import typer

from tailorbird.cli.invocation import ExitStatus
from tailorbird.cli.session import As, AsJson, Key, Workspace, open_session, print_json, print_table, say
from tailorbird.crypto.canonical_json import short
from tailorbird.domain.signal import Severity, Signal
from tailorbird.usecases.operations import Nothing
from tailorbird.usecases.operations import monitoring as asking

watch = typer.Typer(invoke_without_command=True)


@watch.callback()
def _watch(
    context: typer.Context,
    workspace: Workspace = None,
    who: As = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Look now, keep the readings, and tell what is news. Exit status 3 when a reading is an alarm.

    `tailorbird watch list` shows earlier readings; `tailorbird worker` looks on a schedule.
    """
    if context.invoked_subcommand:
        return
    found = open_session(workspace, who, key).ask(asking.WATCH, Nothing(), "operator")
    if as_json:
        print_json(found)
    else:
        _show(found.signals)
        say(
            f"{len(found.signals)} readings, {len(found.told)} of them news"
            + (f"; {found.undelivered} notifiers did not answer" if found.undelivered else "")
        )
    if any(signal.severity is Severity.ALARM for signal in found.signals):
        raise typer.Exit(ExitStatus.ALARM)


@watch.command("list")
def _list(
    workspace: Workspace = None,
    who: As = None,
    key: Key = None,
    objective: Annotated[str | None, typer.Option(help="Only readings of this objective.")] = None,
    last: Annotated[int, typer.Option(help="How many of the newest.", min=1, max=1000)] = 50,
    as_json: AsJson = False,
) -> None:
    """Show earlier readings, newest first."""
    found = open_session(workspace, who, key).ask(asking.SIGNALS, asking.SignalsWanted(limit=last, objective=objective)).signals
    print_json(found) if as_json else _show(found)


def _show(signals: tuple[Signal, ...]) -> None:
    rows = [
        (s.severity.value, f"{s.at:%m-%d %H:%M}", s.objective, short(s.release) if s.release else "data", s.name, s.text) for s in signals
    ]
    print_table(("", "at", "objective", "about", "reading", "what it says"), rows)


apps = {"watch": watch}
