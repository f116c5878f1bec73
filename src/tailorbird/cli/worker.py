"""``tailorbird worker``: does the steps of submitted runs."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Annotated

import typer

from tailorbird.cli.invocation import shared_options
from tailorbird.cli.progress import ProgressDisplay
from tailorbird.cli.session import err, open_session
from tailorbird.processes import LogFormat, StepWorker, doing, mind_the_time, set_up, sign_and_ship, watch_all
from tailorbird.usecases import Progress

worker = typer.Typer(add_completion=False)


@worker.command()
def _worker(
    once: Annotated[bool, typer.Option("--once", help="End when nothing waits.")] = False,
    log_format: Annotated[LogFormat | None, typer.Option("--log-format", help="How log lines are written (default text).")] = None,
) -> None:
    """Take up submitted runs of every tenant and do their steps; several workers share the work. Ends with Ctrl-C, giving its step back.

    It acts as the identity `worker` of each tenant, whose key must lie in the workspace. Beside the work it signs and ships checkpoints of
    the log and watches production, as often as the settings say; with --once it does not.
    """
    shared_options().refuse("worker", "who", "key", "as_json")
    session = open_session()
    form, deps = log_format or session.settings.log_format, session.deps
    log = set_up("worker", form)
    log.info("waiting for runs; submit one with: tailorbird adapt OBJECTIVE --detach")
    told = ProgressDisplay(err, waits=True) if form == "text" else nullcontext(Progress(tell=log.info))
    with told as progress, nullcontext() if once else doing([mind_the_time(deps), sign_and_ship(deps), watch_all(deps)]):
        StepWorker(deps, progress, log.info, once=once).run()


apps = {"worker": worker}
