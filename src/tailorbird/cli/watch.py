"""``tailorbird watch``: are messages, answers, the service and the data still what they were?"""

from __future__ import annotations

from typing import Annotated

import typer

from tailorbird.cli.groups import command_group
from tailorbird.cli.invocation import ExitStatus
from tailorbird.cli.session import open_session, print_json, print_table, say
from tailorbird.crypto.canonical_json import short
from tailorbird.domain.feedback import Severity, Signal
from tailorbird.usecases.monitoring.traffic import list_signals
from tailorbird.usecases.monitoring.watch import watch_production

watch = command_group(runs_alone=True)


@watch.callback()
def _watch(
    context: typer.Context,
) -> None:
    """Take readings of drift, service and data now, store them, and send alerts. Exit status 3 on an alarm.

    `tailorbird watch list` shows earlier readings; `tailorbird worker` takes them on a schedule.
    """
    if context.invoked_subcommand:
        return
    session = open_session()
    found = session.ask_as("operator", watch_production)
    if session.as_json:
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
    objective: Annotated[str | None, typer.Option(help="Only readings of this objective.")] = None,
    last: Annotated[int, typer.Option(help="Number of newest readings.", min=1, max=1000)] = 50,
) -> None:
    """Show earlier readings, newest first."""
    session = open_session()
    found = session.ask(list_signals, limit=last, objective=objective).signals
    print_json(found) if session.as_json else _show(found)


def _show(signals: tuple[Signal, ...]) -> None:
    rows = [
        (s.severity.value, f"{s.at:%m-%d %H:%M}", s.objective, short(s.release) if s.release else "data", s.name, s.text) for s in signals
    ]
    print_table(("", "at", "objective", "about", "reading", "what it says"), rows)


apps = {"watch": watch}
