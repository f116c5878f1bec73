"""``tailorbird worker``: does the steps of submitted runs."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Annotated

import typer

from tailorbird.cli.groups import command
from tailorbird.cli.invocation import shared_options
from tailorbird.cli.progress import ProgressDisplay
from tailorbird.cli.session import err, open_session
from tailorbird.processes import (
    LogFormat,
    StepWorker,
    check_production,
    clear_erased,
    raise_clock_floor,
    run_schedules,
    set_up_logging,
    sign_and_ship,
)
from tailorbird.usecases import Progress
from tailorbird.usecases.maintenance.backup import demand_undamaged

worker = command()


@worker.command()
def _worker(
    once: Annotated[bool, typer.Option("--once", help="Exit when the queue is empty.")] = False,
    log_format: Annotated[LogFormat | None, typer.Option("--log-format", help="Log format. [default: text]")] = None,
) -> None:
    """Execute submitted runs of every tenant, step by step; workers share the queue. Ctrl-C releases the current step and exits.

    Acts as the identity `worker` of each tenant, whose key must be in the workspace. Also signs and ships log checkpoints and monitors
    production on the configured schedule, except with --once.
    """
    shared_options().refuse("worker", "who", "key", "as_json")
    session = open_session()
    demand_undamaged(session.deps)
    form, deps = log_format or session.settings.log_format, session.deps
    log = set_up_logging("worker", form)
    log.info("waiting for runs; submit one with: tailorbird adapt OBJECTIVE --detach")
    told = ProgressDisplay(err, waits=True) if form == "text" else nullcontext(Progress(tell=log.info))
    schedules = [raise_clock_floor(deps), sign_and_ship(deps), check_production(deps), clear_erased(deps)]
    with told as progress, nullcontext() if once else run_schedules(schedules):
        StepWorker(deps, progress, log.info, once=once).run()


apps = {"worker": worker}
