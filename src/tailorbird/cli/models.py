"""``tailorbird models``: base models on offer and here."""

from __future__ import annotations

from typing import Annotated

import typer

from tailorbird import base_models as catalogue
from tailorbird.auth import Action
from tailorbird.cli.groups import CommandGroup
from tailorbird.cli.progress import ProgressDisplay
from tailorbird.cli.session import err, open_session, out, print_json, print_table
from tailorbird.reporting import human_count
from tailorbird.usecases.audit_events import permit
from tailorbird.usecases.operations import Nothing
from tailorbird.usecases.operations import monitoring as asking

models = typer.Typer(cls=CommandGroup, add_completion=False, no_args_is_help=True)


@models.callback()
def _models() -> None:
    """List base models, and fetch one."""


@models.command("list")
def _list() -> None:
    """List the base models of the catalogue, and whether each is here."""
    session = open_session()
    known = session.ask(asking.MODELS, Nothing()).models
    if session.as_json:
        print_json(known)
        return
    rows = [(m.name, m.title, m.license, human_count(m.parameters), "here" if m.here else "not fetched") for m in known]
    print_table(("name", "model", "licence", "parameters", "state"), rows)


@models.command("pull")
def _pull(
    name: Annotated[str, typer.Argument(help="A catalogue name, hf://OWNER/NAME[@REVISION], or a local folder or GGUF file.")],
) -> None:
    """Fetch a base model, check its digest, and keep it as safetensors."""
    session = open_session()
    permit(session.deps, session.actor(), Action.PULL_MODEL, name)
    with ProgressDisplay(err) as progress:
        folder = catalogue.pull(name, session.deps.models, session.deps.model_reader, progress.tell)
    print_json({"name": name, "folder": str(folder)}) if session.as_json else out.print(str(folder), markup=False)


apps = {"models": models}
