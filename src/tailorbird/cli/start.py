"""``tailorbird init``: from an empty folder to a workspace with people in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from tailorbird import settings, wiring
from tailorbird.cli.address import SERVER
from tailorbird.cli.session import AsJson, print_json, print_table, say
from tailorbird.domain.errors import Conflict, InvalidInput
from tailorbird.foundations.disk import private_folder
from tailorbird.lifecycle.identities.people import FIRST_PEOPLE, initialise, key_path
from tailorbird.objective import TEMPLATES, write_template

init = typer.Typer()


@init.command()
def _init(
    tenant: Annotated[str, typer.Option(help="Name of the first tenant: your organisation or team.")] = "default",
    workspace: Annotated[Path, typer.Option("--workspace", "-w", help="Folder to make.")] = Path(settings.FOLDER),
    template: Annotated[str, typer.Option(help=f"Also write an objective to start from: {', '.join(TEMPLATES)}.")] = "",
    into: Annotated[Path, typer.Option(help="Folder for the files of the template.")] = Path(),
    as_json: AsJson = False,
) -> None:
    """Make a workspace: database, artifact store, a tenant, and one identity a role, each with its own key.

    Doing it again changes nothing and adds what is missing.
    """
    if os.environ.get(SERVER):
        raise InvalidInput("a workspace is made on the machine that it is for", "run init there, without --server", code="local_only")
    _make(workspace, tenant)
    opened = settings.load_settings(workspace.resolve())
    if opened.tenant != tenant:
        raise Conflict(f"{workspace} belongs to tenant {opened.tenant}", "choose another --workspace", code="workspace_exists")
    parts = wiring.open_parts(opened)
    people = initialise(parts, tenant, FIRST_PEOPLE)
    written = write_template(template, into, tenant) if template else ()
    if as_json:
        print_json(people)
        return
    say(f"workspace {workspace} is ready for tenant {tenant}; each identity signs with a key of its own:")
    print_table(("identity", "roles", "key"), [(p.name, ", ".join(sorted(p.roles)), str(key_path(parts, tenant, p.name))) for p in people])
    for path in written:
        say(f"wrote {path}")
    objective = written[-1] if written else "OBJECTIVE"
    say(f"next: tailorbird plan {objective}, then tailorbird adapt {objective}")


def _make(workspace: Path, tenant: str) -> None:
    private_folder(workspace)
    if not (workspace / "settings.yaml").exists():
        settings.save_settings(workspace, {"tenant": tenant})


apps = {"init": init}
