"""Ledgers to run the contract against. A new database joins by a line in ``DATABASES`` and a fixture that makes a fresh one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from support.ledger_samples import START, SetClock
from support.postgresql import TEMPLATE, Server, running_server
from tailorbird.domain.identity import Tenant
from tailorbird.ledger import open_ledger
from tailorbird.ports.ledger import Ledger

TENANTS = ("acme", "globex")
DATABASES = ["sqlite", "postgresql"]

#: Makes a database and returns its URL; the folder is for those that are files.
Fresh = Callable[[Path], str]


def fill_template(url: str) -> None:
    """A migrated database with both tenants."""
    ledger = open_ledger(url)
    ledger.migrate()
    with ledger.system() as system:
        for name in TENANTS:
            system.tenants.add(Tenant(name=name, created_at=START))
    ledger.close()


@pytest.fixture(scope="session")
def fresh_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Fresh:
    """A copy of a file that was made once."""
    template = tmp_path_factory.mktemp("template") / "ledger.db"
    fill_template(f"sqlite:///{template}")

    def fresh(folder: Path) -> str:
        shutil.copy(template, folder / "ledger.db")
        return f"sqlite:///{folder / 'ledger.db'}"

    return fresh


@pytest.fixture(scope="session")
def empty_server() -> Iterator[Server]:
    """A running server whose template is still empty."""
    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def server(empty_server: Server) -> Server:
    """A running server."""
    fill_template(empty_server.url(TEMPLATE))
    return empty_server


@pytest.fixture(scope="session")
def fresh_postgresql(server: Server) -> Fresh:
    """A copy of a database that was made once."""
    return lambda _folder: server.copy()


@pytest.fixture(params=DATABASES)
def fresh(request: pytest.FixtureRequest) -> Fresh:
    """Makes migrated databases that hold two tenants and nothing else, of each kind in turn."""
    made: Fresh = request.getfixturevalue(f"fresh_{request.param}")
    return made


@pytest.fixture(params=DATABASES)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without tables, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty' / 'ledger.db'}"
    empty: str = request.getfixturevalue("server").empty()
    return empty


@pytest.fixture
def url(fresh: Fresh, tmp_path: Path) -> str:
    """The URL of a migrated database that holds two tenants and nothing else."""
    return fresh(tmp_path)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def ledger(url: str, clock: SetClock) -> Iterator[Ledger]:
    opened = open_ledger(url, clock=clock)
    yield opened
    opened.close()


@pytest.fixture
def raw(url: str) -> Iterator[Callable[..., int]]:
    """Runs a statement of somebody who goes around the ledger, and says how many rows it touched."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)

    def run(statement: str, **values: object) -> int:
        with engine.connect() as connection:
            return connection.execute(text(statement), values).rowcount

    yield run
    engine.dispose()
