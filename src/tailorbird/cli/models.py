"""``tailorbird models``: base models on offer and here."""

from __future__ import annotations

from typing import Annotated

import typer

from tailorbird import models as catalogue
from tailorbird.access import Action
from tailorbird.cli.narrator import Narrator
from tailorbird.cli.session import As, AsJson, Key, Workspace, err, open_session, out, print_json, print_table
from tailorbird.lifecycle.control import Nothing
from tailorbird.lifecycle.control import looking as asking
from tailorbird.lifecycle.journal import permit
from tailorbird.reporting import human_count

models = typer.Typer(no_args_is_help=True)


@models.callback()
def _models() -> None:
    """List base models, and fetch one."""


@models.command("list")
def _list(workspace: Workspace = None, who: As = None, key: Key = None, as_json: AsJson = False) -> None:
    """List the base models of the catalogue, and whether each is here."""
    known = open_session(workspace, who, key).ask(asking.MODELS, Nothing()).models
    if as_json:
        print_json(known)
        return
    rows = [(m.name, m.title, m.license, human_count(m.parameters), "here" if m.here else "not fetched") for m in known]
    print_table(("name", "model", "licence", "parameters", "state"), rows)


@models.command("pull")
def _pull(
    name: Annotated[str, typer.Argument(help="A catalogue name, hf://OWNER/NAME[@REVISION], or a local folder or GGUF file.")],
    workspace: Workspace = None,
    who: As = None,
    key: Key = None,
) -> None:
    """Fetch a base model, check its digest, and keep it as safetensors."""
    session = open_session(workspace, who, key)
    permit(session.parts, session.actor(), Action.PULL_MODEL, name)
    with Narrator(err) as progress:
        folder = catalogue.pull(name, session.parts.models, session.parts.model_reader, progress.tell)
    out.print(str(folder), markup=False)


apps = {"models": models}
