"""``tailorbird worker``: does the steps of submitted runs."""

from __future__ import annotations

from typing import Annotated

import typer

from tailorbird.app import Worker
from tailorbird.cli.narrator import Narrator
from tailorbird.cli.session import Workspace, err, open_session, say

worker = typer.Typer()


@worker.command()
def _worker(
    workspace: Workspace = None,
    once: Annotated[bool, typer.Option("--once", help="End when nothing waits.")] = False,
) -> None:
    """Take up submitted runs of every tenant and do their steps; several workers share the work. Ends with Ctrl-C, giving its step back.

    It acts as the identity `worker` of each tenant, whose key must lie in the workspace.
    """
    parts = open_session(workspace).parts
    say("waiting for runs; submit one with: tailorbird adapt OBJECTIVE --detach")
    Worker(parts, Narrator(err).progress(), say, once=once).run()


apps = {"worker": worker}
