"""``tailorbird serve``, and the engine process it starts."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from tailorbird import wiring
from tailorbird.app import run_engine, run_gateway, take_secret
from tailorbird.cli.session import Workspace, open_session

serve = typer.Typer()
engine = typer.Typer()


@serve.command()
def _serve(
    workspace: Workspace = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on (default 127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (default 8080).", min=0, max=65535)] = None,
) -> None:
    """Answer over HTTP as OpenAI's API does, for every alias with a release in production. Ends with Ctrl-C, after requests in flight."""
    session = open_session(workspace)
    settings = session.settings
    run_gateway(
        session.parts,
        host or settings.host,
        settings.port if port is None else port,
        wiring.open_driver,
        keep_former=timedelta(seconds=settings.keep_former_seconds),
    )


@engine.command()
def _engine(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.", min=1, max=65535)],
    workspace: Workspace = None,
) -> None:
    """Run models for one gateway. The gateway starts this; it is not for people."""
    run_engine(open_session(workspace).parts, port, take_secret())


apps = {"serve": serve, "engine": engine}
