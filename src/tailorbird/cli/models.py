"""``tailorbird models``: base models on offer and here."""

from __future__ import annotations

from typing import Annotated

import typer

from tailorbird import base_models as catalogue
from tailorbird.auth import Action
from tailorbird.cli.groups import command_group
from tailorbird.cli.progress import ProgressDisplay
from tailorbird.cli.session import err, open_session, out, print_json, print_table
from tailorbird.reporting import human_count
from tailorbird.usecases.audit_events import permit
from tailorbird.usecases.base_models import list_models

models = command_group()


@models.callback()
def _models() -> None:
    """List and download base models."""


@models.command("list")
def _list() -> None:
    """List the catalogue's base models and their local state."""
    session = open_session()
    known = session.ask(list_models).models
    if session.as_json:
        print_json(known)
        return
    rows = [(m.name, m.title, m.license, human_count(m.parameters), "here" if m.here else "not fetched") for m in known]
    print_table(("name", "model", "licence", "parameters", "state"), rows)


@models.command("pull")
def _pull(
    name: Annotated[str, typer.Argument(help="Catalogue name, hf://OWNER/NAME[@REVISION], local folder or GGUF file.")],
) -> None:
    """Download a base model, verify its digest, and store it as safetensors."""
    session = open_session()
    permit(session.deps, session.actor(), Action.PULL_MODEL, name)
    with ProgressDisplay(err) as progress:
        folder = catalogue.pull(name, session.deps.models, session.deps.model_reader, progress.tell)
    print_json({"name": name, "folder": str(folder)}) if session.as_json else out.print(str(folder), markup=False)


apps = {"models": models}
