"""Dump of the whole ledger as plain files, and restore: for backups and for moving between databases.

The folder holds one JSONL file a table (a row a line, a column a key, times in ISO 8601, in the order that the database gives the primary
key) and ``manifest.json``, which is written last: the schema, rows and SHA-256 of each file, size and root of the log. Whoever
wants to know that nobody changed a backup compares that root with a signed checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from sqlalchemy import Column, Connection, MetaData, Table, Text, delete, func, insert, select, update

from tailorbird.domain.errors import Conflict, Corrupt, Unavailable
from tailorbird.domain.value import Value
from tailorbird.ledger.database import SCHEMA, Database, schema_of
from tailorbird.ledger.event_log import Events
from tailorbird.ledger.tables import CanonicalJson, UtcTime, alias_moves, log_frontier, metadata
from tailorbird.system.files import flush, flush_path, private_folder

#: How many rows are held in memory at once.
_ROWS_AT_ONCE = 2000


class StatedFile(Value):
    """Manifest entry of a table's file. ``sha256`` in hex."""

    rows: int
    sha256: str


class DumpManifest(Value):
    """Manifest of a dump: ``files`` by table."""

    format: Literal[1]
    revision: str
    log_size: int
    log_root: str
    files: dict[str, StatedFile]


def dump(database: Database, folder: Path) -> dict[str, int]:
    """Writes everything, as of one moment and while others write, into the empty ``folder``. Returns rows a table.

    Without ``manifest.json`` a dump is not finished. Raises Conflict when the folder holds something, and Unavailable.
    """
    with _file_errors(folder), database.reading() as connection:
        _require_schema(connection)
        private_folder(folder)
        if any(folder.iterdir()):
            raise Conflict(f"the folder {folder} is not empty", "name a new folder for the backup")
        files = {table.name: _write(connection, table, folder) for table in metadata.sorted_tables}
        log = Events(connection, None)
        manifest = DumpManifest(format=1, revision=SCHEMA, log_size=log.size(), log_root=log.root(), files=files)
        # Appears whole or not at all.
        unfinished = folder / "manifest.unfinished"
        with unfinished.open("w", encoding="utf-8") as file:
            file.write(manifest.model_dump_json(indent=2) + "\n")
            flush(file)
        unfinished.rename(folder / "manifest.json")
        flush_path(folder)
    return {name: file.rows for name, file in files.items()}


def restore(database: Database, folder: Path) -> dict[str, int]:
    """Reads what ``dump`` wrote into a database that has the tables and holds nothing yet: everything or nothing. Returns rows a table.

    Tables of other programs in the same database are left as they are.

    Raises Conflict when the database holds something, Corrupt when the files are not what the manifest says, and Unavailable.
    """
    with _file_errors(folder):
        manifest = _checked_manifest(folder)
        with database.writing() as connection:
            _require_schema(connection)
            # A new database holds two rows: an empty log, and no moves of aliases.
            made_with = {log_frontier.name: select(log_frontier.c.size), alias_moves.name: select(alias_moves.c.count)}
            counts = {table: made_with.get(table.name, select(func.count()).select_from(table)) for table in metadata.sorted_tables}
            if any(connection.scalar(count) for count in counts.values()):
                raise Conflict(
                    "the database already holds something",
                    "restore into a new database, which nobody has used yet",
                )
            if manifest.files.keys() != metadata.tables.keys():
                raise _not_as_stated("its manifest names other tables")
            for table in reversed(metadata.sorted_tables):
                connection.execute(delete(table))
            rows = {table.name: _load(connection, _plain(table), folder) for table in metadata.sorted_tables}
            connection.execute(update(log_frontier).values(seal=""))  # sealed anew here, with the next entry, where the key is
            log = Events(connection, None)
            stated = {name: file.rows for name, file in manifest.files.items()}
            if (rows, log.size(), log.root()) != (stated, manifest.log_size, manifest.log_root):
                raise _not_as_stated("rows and log are not what its manifest says")
    return rows


def _plain(table: Table) -> Table:
    """The table as it is stored: lists and mappings stay the text that they are, byte for byte."""
    columns = (Column(c.name, Text() if isinstance(c.type, CanonicalJson) else c.type) for c in table.columns)
    return Table(table.name, MetaData(), *columns)


def _lines(connection: Connection, table: Table) -> Generator[bytes, None, None]:
    plain = _plain(table)
    ordered = select(plain).order_by(*(plain.c[key.name] for key in table.primary_key.columns))
    with connection.execute(ordered.execution_options(yield_per=_ROWS_AT_ONCE)) as rows:
        for row in rows.mappings():
            yield json.dumps(dict(row), ensure_ascii=False, separators=(",", ":"), default=datetime.isoformat).encode() + b"\n"


def _load(connection: Connection, table: Table, folder: Path) -> int:
    count, times = 0, [c.name for c in table.columns if isinstance(c.type, UtcTime)]
    with _file(folder, table.name).open("rb") as lines:
        while piece := [_row(line, table, times) for line in islice(lines, _ROWS_AT_ONCE)]:
            connection.execute(insert(table), piece)
            count += len(piece)
    return count


def _row(line: bytes, table: Table, times: Iterable[str]) -> dict[str, Any]:
    try:
        row: dict[str, Any] = json.loads(line)
        moments = {name: _moment(row[name]) for name in times if row[name] is not None}
    except (KeyError, TypeError, ValueError):
        row, moments = {}, {}
    if row.keys() != set(table.columns.keys()):
        raise _not_as_stated(f"a row of {table.name} cannot be read")
    return row | moments


def _moment(written: str) -> datetime:
    moment = datetime.fromisoformat(written)
    if moment.tzinfo is None:
        raise ValueError
    return moment


def _write(connection: Connection, table: Table, folder: Path) -> StatedFile:
    """Writes a file that its owner alone may read, and waits for the disk."""
    sha256, count = hashlib.sha256(), 0
    descriptor = os.open(_file(folder, table.name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file, closing(_lines(connection, table)) as lines:
        for line in lines:
            file.write(line)
            sha256.update(line)
            count += 1
        flush(file)
    return StatedFile(rows=count, sha256=sha256.hexdigest())


def _checked_manifest(folder: Path) -> DumpManifest:
    """The manifest of a folder whose files are all there and unchanged. Raises Corrupt, Unavailable."""
    try:
        manifest = DumpManifest.model_validate_json((folder / "manifest.json").read_bytes())
    except FileNotFoundError:
        raise _not_as_stated("it has no manifest.json, so it was never finished") from None
    except ValidationError:
        raise _not_as_stated("its manifest.json cannot be read") from None
    if manifest.revision != SCHEMA:
        raise Unavailable(
            f"the backup has the schema {manifest.revision}, and this version of tailorbird schema {SCHEMA}",
            "restore it with the version that made it",
            code="backup_version",
        )
    for table, stated in manifest.files.items():
        if _sha256(_file(folder, table)) != stated.sha256:
            raise _not_as_stated(f"the file of {table} was changed or is gone")
    return manifest


def _sha256(file: Path) -> str:
    """Empty for a file that is not there."""
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except FileNotFoundError:
        return ""


def _require_schema(connection: Connection) -> None:
    if schema_of(connection) != SCHEMA:
        raise Unavailable("the database is not of this version", "make its tables: tailorbird init", code="database_schema")


def _file(folder: Path, table: str) -> Path:
    return folder / f"{table}.jsonl"


@contextmanager
def _file_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(
            f"the backup in {folder} cannot be written or read: {error.strerror}",
            "choose a folder that you may write, on a disk with enough space",
            code="storage_unreachable",
        ) from error


def _not_as_stated(what: str) -> Corrupt:
    return Corrupt(f"the backup cannot be used: {what}", "use another backup", code="backup_corrupt")
