"""Brings a database to this version's schema.

In: a database. Out: the same database, with all tables. Must not know: what the tables hold. ``migrations/versions`` has the steps.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from tailorbird.domain.errors import Unavailable
from tailorbird.ledger.database import Database

#: The revision that ``tables.py`` describes: the last one in ``migrations/versions``.
NEWEST = "0002"

_SCRIPTS = Path(__file__).parent / "migrations"


def migrate(database: Database) -> None:
    """Makes the file where there is none and runs the migrations that it lacks. Raises Unavailable.

    The write lock is taken first and everything happens in one transaction: of several processes that migrate at once, one does and the
    others find it done; a kill leaves the schema as it was.
    """
    database.make()
    with database.reading() as connection:
        if _revision(connection) == NEWEST:
            return
    with database.writing() as connection:
        _upgrade(connection)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def _upgrade(connection: Connection) -> None:
    from alembic import command  # a tenth of a second to import, and needed only when the schema changes
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise Unavailable(
            "the database was made by a newer version of tailorbird",
            "use that version, or the backup made before it was installed",
            code="database_newer",
        ) from error
