"""Ledgers to run the contract against. A new database joins by a line in ``DATABASES``."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ledger_samples import START, SetClock

from tailorbird.domain.identity import Tenant
from tailorbird.ledger import open_ledger
from tailorbird.ports.ledger import Ledger

TENANTS = ("acme", "globex")


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database with both tenants, made once and copied for each test."""
    file = tmp_path_factory.mktemp("template") / "ledger.db"
    ledger = open_ledger(f"sqlite:///{file}")
    ledger.migrate()
    with ledger.system() as system:
        for name in TENANTS:
            system.tenants.add(Tenant(name=name, created_at=START))
    ledger.close()
    return file


@pytest.fixture(scope="session")
def fresh_sqlite(migrated_sqlite: Path) -> Callable[[Path], str]:
    """Makes a database in a folder and returns its URL."""

    def fresh(folder: Path) -> str:
        shutil.copy(migrated_sqlite, folder / "ledger.db")
        return f"sqlite:///{folder / 'ledger.db'}"

    return fresh


DATABASES = ["sqlite"]


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a migrated database that holds two tenants and nothing else."""
    return request.getfixturevalue(f"fresh_{request.param}")(tmp_path)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def ledger(url: str, clock: SetClock) -> Iterator[Ledger]:
    opened = open_ledger(url, clock=clock)
    yield opened
    opened.close()
