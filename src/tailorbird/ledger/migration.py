"""Brings a database to this version's schema."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

from tailorbird.domain.errors import Unavailable
from tailorbird.ledger.database import Database

if TYPE_CHECKING:
    from alembic.config import Config

#: The revision that ``tables.py`` describes: the last one in ``migrations/versions``.
NEWEST = "0016"

#: Where alembic finds the steps.
SCRIPTS = Path(__file__).parent / "migrations"


def migrate(database: Database) -> None:
    """Makes the database where there is none (a file) and runs the migrations that it lacks. Raises Unavailable.

    The write lock is taken first and everything happens in one transaction: of several processes that migrate at once, one does and the
    others find it done; a kill leaves the schema as it was.
    """
    database.make()
    with database.reading() as connection:
        if revision_of(connection) == NEWEST:
            return
    with database.writing() as connection:
        _upgrade(connection)


def revision_of(connection: Connection) -> str | None:
    """The revision of the schema; None where there is none yet."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def alembic_config(connection: Connection) -> Config:
    """What alembic's commands need to work on this connection, inside its transaction."""
    from alembic.config import Config  # a tenth of a second to import, and needed only when the schema changes

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.util import CommandError

    try:
        command.upgrade(alembic_config(connection), "head")
    except CommandError as error:
        raise Unavailable(
            "the database was made by a newer version of tailorbird",
            "use that version, or the backup made before it was installed",
            code="database_newer",
        ) from error
