"""Databases to run the contract against.

A new database joins by a line in ``DATABASES`` and a fixture that makes a fresh one.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, insert, text
from sqlalchemy.pool import NullPool

from support.ledger_samples import START, SetClock
from support.postgresql import BOTH, TEMPLATE, Server, as_user, running_server
from tailorbird.domain.identity import Tenant
from tailorbird.ledger import Ledger, open_ledger
from tailorbird.ledger.database import open_database
from tailorbird.ledger.repository import row_of
from tailorbird.ledger.tables import tenants
from tailorbird.ports.clock import Clock

TENANTS = ("acme", "globex")
DATABASES = ["sqlite", "postgresql"]

#: Makes a database and returns its URL; the folder is for those that are files.
Fresh = Callable[[Path], str]
#: Opens a new ledger that holds both tenants and nothing else.
Open = Callable[[Path, Clock], Ledger]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test runs on every kind of database."""
    if "kind" in metafunc.fixturenames:
        metafunc.parametrize("kind", DATABASES)


def fill_template(url: str) -> None:
    """A migrated database with both tenants in their table and nothing in the log."""
    with closing(open_ledger(url)) as ledger:
        ledger.migrate()
    with closing(open_database(url)) as database, database.writing() as connection:
        connection.execute(insert(tenants), [row_of(tenants, Tenant(name=name, created_at=START)) for name in TENANTS])


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
    with closing(open_ledger(empty_server.url(TEMPLATE))) as ledger:
        empty_server.make_roles(TEMPLATE, ledger.role_script())
    return empty_server


@pytest.fixture(scope="session")
def fresh_postgresql(server: Server) -> Fresh:
    """A copy of a database that was made once, for a user who does not own it: policies hold."""
    return lambda _folder: as_user(server.copy(), BOTH)


@pytest.fixture
def fresh(request: pytest.FixtureRequest, kind: str) -> Fresh:
    """Makes migrated databases that hold two tenants and nothing else, of each kind in turn."""
    made: Fresh = request.getfixturevalue(f"fresh_{kind}")
    return made


@pytest.fixture
def open_fresh(request: pytest.FixtureRequest, kind: str) -> Open:
    """Opens new ledgers that hold two tenants and nothing else, of each kind in turn."""
    fresh: Fresh = request.getfixturevalue("fresh")
    return lambda folder, clock: open_ledger(fresh(folder), clock=clock)


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
def ledger(request: pytest.FixtureRequest, kind: str, clock: SetClock) -> Iterator[Ledger]:
    """A ledger that holds two tenants and nothing else; of a database it is the one at ``url``."""
    opened = open_ledger(request.getfixturevalue("url"), clock=clock)
    yield opened
    opened.close()


@pytest.fixture
def raw(url: str) -> Iterator[Callable[..., int]]:
    """Runs a statement of somebody who goes around the ledger, and says how many rows it touched."""
    engine = create_engine(as_user(url), isolation_level="AUTOCOMMIT", poolclass=NullPool)

    def run(statement: str, **values: object) -> int:
        with engine.connect() as connection:
            return connection.execute(text(statement), values).rowcount

    yield run
    engine.dispose()
