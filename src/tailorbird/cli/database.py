"""``tailorbird database``: schema and roles of the database that holds the record."""

from __future__ import annotations

import typer

from tailorbird.cli.groups import command_group
from tailorbird.cli.session import open_session, print_json, say
from tailorbird.domain.errors import Conflict

database = command_group()


@database.callback()
def _database() -> None:
    """Make the tables of the record's database; print the roles that gateway and worker log in with. On the machine of the workspace."""


@database.command("migrate")
def _migrate() -> None:
    """Make the tables where there are none, and set what each role may do (PostgreSQL). Run as the owner of the tables."""
    session = open_session()
    session.deps.ledger.migrate()
    print_json({"migrated": True}) if session.as_json else say("the database has the schema of this version")


@database.command("roles")
def _roles() -> None:
    """Print SQL that makes the roles of gateway and worker (PostgreSQL), for psql. It can be run again."""
    session = open_session()
    script = session.deps.ledger.role_script()
    if not script:
        raise Conflict(
            "a database in a file has no roles",
            "keep the record in PostgreSQL: set database in settings.yaml",
            code="database_without_roles",
        )
    print_json({"sql": script}) if session.as_json else typer.echo(script, nl=False)


apps = {"database": database}
