"""A workspace with a real ledger and artifact store, and in-memory twins for what needs torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.postgresql import Server, running_server
from support.usecases import open_workspace, write_objective
from support.workspace_ledger import SQLITE
from tailorbird.usecases import Actor, Dependencies
from tailorbird.usecases.identities import act_as


@pytest.fixture
def another_parts(tmp_path: Path) -> Iterator[Callable[..., Dependencies]]:
    """Opens workspaces, each with keys of its own, on the ledger that is named; closes them in the end."""
    opened: list[Dependencies] = []

    def open_another(ledger_kind: str = SQLITE) -> Dependencies:
        opened.append(open_workspace(tmp_path / f"workspace-{len(opened)}", ledger_kind))
        return opened[-1]

    yield open_another
    for deps in opened:
        deps.ledger.close()


@pytest.fixture
def deps(request: pytest.FixtureRequest, another_parts: Callable[..., Dependencies]) -> Dependencies:
    """On SQLite; for a test marked ``on_both_databases`` on SQLite and PostgreSQL."""
    kind = getattr(request, "param", SQLITE)
    return another_parts(request.getfixturevalue("postgresql").empty() if kind == "postgresql" else kind)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A real server, with databases that are still empty."""
    with running_server() as server:
        yield server


@pytest.fixture
def author(deps: Dependencies) -> Actor:
    return act_as(deps, "acme", "author")


@pytest.fixture
def approver(deps: Dependencies) -> Actor:
    return act_as(deps, "acme", "approver")


@pytest.fixture
def operator(deps: Dependencies) -> Actor:
    return act_as(deps, "acme", "operator")


@pytest.fixture
def objective_path(tmp_path: Path) -> Path:
    return write_objective(tmp_path / "job")
