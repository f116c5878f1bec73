"""``tailorbird worker``: does the steps of submitted runs."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Annotated

import typer

from tailorbird.app import LogFormat, Worker, doing, mind_the_time, set_up, sign_and_ship, watch_all
from tailorbird.cli.narrator import Narrator
from tailorbird.cli.session import Workspace, err, open_session
from tailorbird.lifecycle import Progress

worker = typer.Typer()


@worker.command()
def _worker(
    workspace: Workspace = None,
    once: Annotated[bool, typer.Option("--once", help="End when nothing waits.")] = False,
    log_format: Annotated[LogFormat | None, typer.Option("--log-format", help="How log lines are written (default text).")] = None,
) -> None:
    """Take up submitted runs of every tenant and do their steps; several workers share the work. Ends with Ctrl-C, giving its step back.

    It acts as the identity `worker` of each tenant, whose key must lie in the workspace. Beside the work it signs and ships checkpoints of
    the log and watches production, as often as the settings say; with --once it does not.
    """
    session = open_session(workspace)
    form, parts = log_format or session.settings.log_format, session.parts
    log = set_up("worker", form)
    log.info("waiting for runs; submit one with: tailorbird adapt OBJECTIVE --detach")
    told = Narrator(err, waits=True) if form == "text" else nullcontext(Progress(tell=log.info))
    with told as progress, nullcontext() if once else doing([mind_the_time(parts), sign_and_ship(parts), watch_all(parts)]):
        Worker(parts, progress, log.info, once=once).run()


apps = {"worker": worker}
