"""A PostgreSQL server that is stopped and started again under a worker: it goes on by itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from support.faults import Desk, Ending, ending_of, opened
from support.postgresql import TEMPLATE, Server, running_server
from support.processes import wait_until
from tailorbird.usecases.snapshots import PROVENANCE


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


@pytest.fixture
def same_secret(template: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every workspace gets the template's secret: snapshots are sealed with it, and a release's digest speaks of its snapshot."""
    with opened(template) as deps, deps.ledger.work("acme", write=False) as work:
        secret = work.secrets.get(PROVENANCE)
    monkeypatch.setattr("tailorbird.ledger.tenants.randomness", SimpleNamespace(token_hex=lambda _size: secret.hex()))


@pytest.mark.usefixtures("same_secret")
def test_a_worker_goes_on_when_the_server_is_back(server: Server, template: Desk, undisturbed: Ending, tmp_path: Path) -> None:
    """Stopped as an administrator does it, in the middle of the story, three times; connections are lost, nothing else is."""
    desk = Desk.new(tmp_path / "workspace", template.objective, database=server.url(TEMPLATE))
    desk.submit()
    lasting = desk.call("worker")
    worker = lasting.start()
    wait_until(lambda: "waiting for runs" in lasting.said)
    for _ in range(3):
        time.sleep(0.4)
        server.stop()
        time.sleep(0.4)
        server.start()
    deadline = time.monotonic() + 60
    while not desk.is_over():
        assert worker.is_alive(), lasting.said
        assert time.monotonic() < deadline, lasting.said
        time.sleep(0.2)
    worker.terminate()
    worker.join(30)
    assert worker.exitcode == 0, lasting.said
    assert "database_unreachable" in lasting.said
    assert ending_of(desk) == undisturbed
