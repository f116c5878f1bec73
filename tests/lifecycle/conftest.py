"""A workspace with a real ledger and artifact store, and in-memory twins for what needs torch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent / "ledger"))  # the PostgreSQL server is shared with the ledger's tests

from ledger_postgresql import Server, running_server
from lifecycle_kit import open_workspace, write_objective

from tailorbird.lifecycle import Actor, Parts
from tailorbird.lifecycle.identities.people import act_as


@pytest.fixture
def another_parts(tmp_path: Path) -> Iterator[Callable[..., Parts]]:
    """Opens workspaces, each with keys of its own, on the database whose URL is given, or on one within them; closes them in the end."""
    opened: list[Parts] = []

    def open_another(database: str = "") -> Parts:
        opened.append(open_workspace(tmp_path / f"workspace-{len(opened)}", database))
        return opened[-1]

    yield open_another
    for parts in opened:
        parts.ledger.close()


@pytest.fixture
def parts(request: pytest.FixtureRequest, another_parts: Callable[..., Parts]) -> Parts:
    """On SQLite; for a test marked ``on_both_databases`` on PostgreSQL, too."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return another_parts()
    return another_parts(request.getfixturevalue("postgresql").empty())


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A real server, with databases that are still empty."""
    with running_server() as server:
        yield server


@pytest.fixture
def author(parts: Parts) -> Actor:
    return act_as(parts, "acme", "author")


@pytest.fixture
def approver(parts: Parts) -> Actor:
    return act_as(parts, "acme", "approver")


@pytest.fixture
def operator(parts: Parts) -> Actor:
    return act_as(parts, "acme", "operator")


@pytest.fixture
def objective_path(tmp_path: Path) -> Path:
    return write_objective(tmp_path / "job")
