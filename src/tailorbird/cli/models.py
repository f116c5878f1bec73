"""``tailorbird models``: base models on offer and here."""

from __future__ import annotations

from typing import Annotated

import typer

from tailorbird.cli.groups import command_group
from tailorbird.cli.progress import ProgressDisplay
from tailorbird.cli.session import CommandSession, err, new_session, open_session, out, print_json, print_table
from tailorbird.domain.errors import NotFound
from tailorbird.domain.plan import ModelFit
from tailorbird.planning import FitQuestion
from tailorbird.reporting import fit_table, human_count
from tailorbird.settings import find_workspace, settings_without_workspace
from tailorbird.usecases.base_models import ModelOffer, fit_model, fit_named, list_models, pull_model
from tailorbird.usecases.registry import validated
from tailorbird.wiring import open_fitting

models = command_group()


@models.callback()
def _models() -> None:
    """List and download base models; estimate what a machine can train."""


@models.command("list")
def _list() -> None:
    """List base models, encoders among them, and their local state. Those of the package index need no hub."""
    session = open_session()
    known = session.ask(list_models).models
    if session.as_json:
        print_json(known)
        return
    rows = [(m.name, m.title, m.license, human_count(m.parameters), _kind(m), m.source, "here" if m.here else "not fetched") for m in known]
    print_table(("name", "model", "licence", "parameters", "kind", "from", "state"), rows)


def _kind(model: ModelOffer) -> str:
    """What it is; of an encoder the numbers of a vector, the tokens that it reads, and its languages."""
    if not model.width:
        return model.role
    return f"{model.role}: {model.width} numbers, {model.max_tokens:,} tokens{f', {model.languages}' if model.languages else ''}"


@models.command("pull")
def _pull(
    name: Annotated[str, typer.Argument(help="Catalogue name, hf://OWNER/NAME[@REVISION], local folder or GGUF file.")],
) -> None:
    """Download a base model, verify its digest, and store it as safetensors."""
    session = open_session()
    with ProgressDisplay(err) as progress:
        folder = pull_model(session.deps, session.actor(), name, progress)
    print_json({"name": name, "folder": str(folder)}) if session.as_json else out.print(str(folder), markup=False)


Length = Annotated[int | None, typer.Option("--length", help="Tokens of a row. Default: 1024, or the context.", show_default=False)]
PassTokens = Annotated[
    int | None, typer.Option("--batch-tokens", help="Tokens of a forward pass. Default: as planned.", show_default=False)
]
Methods = Annotated[list[str] | None, typer.Option("--method", help="lora, qlora or full; may be repeated.", show_default=False)]
Memory = Annotated[float | None, typer.Option("--memory", help="Memory of this machine in GiB, instead of its own.", show_default=False)]


@models.command("fit")
def _fit(
    name: Annotated[str, typer.Argument(help="Pulled model, folder with config.json, config file, or .gguf file.", metavar="MODEL")],
    length: Length = None,
    batch_tokens: PassTokens = None,
    rank: Annotated[int, typer.Option("--rank", help="Rank of the adapters.")] = 16,
    methods: Methods = None,
    memory: Memory = None,
) -> None:
    """Estimate memory and speed of training a base model here and on common GPUs, from its config alone. Needs no workspace."""
    session = new_session()
    asked = {"length": length, "batch_tokens": batch_tokens, "rank": rank, "memory": memory}
    question = validated(FitQuestion, asked | ({"methods": methods} if methods else {}))
    found = _fitted(session, name, question)
    print_json(found) if session.as_json else out.print(fit_table(found))


def _fitted(session: CommandSession, name: str, question: FitQuestion) -> ModelFit:
    """As an identity of the workspace, where there is one; of no workspace nothing is read."""
    session.refuse_server()
    try:
        find_workspace(session.workspace)
    except NotFound:
        if session.workspace is not None:
            raise
        return fit_named(*open_fitting(settings_without_workspace()), name, question)
    return fit_model(session.deps, session.actor(), name, question)


apps = {"models": models}
