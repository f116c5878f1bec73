"""Readiness follows the record: gone, back, locked, another kind of database; without a restart."""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.postgresql import TEMPLATE, running_server
from support.processes import live, wait_until
from support.serving import House
from tailorbird.ledger import open_ledger
from tailorbird.processes import gateway
from tailorbird.system import background_loop
from tailorbird.usecases import Dependencies
from tailorbird.usecases.maintenance.health import WorkspaceHealth


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "_LOOK_EVERY", 0.1)


def codes(told: dict[str, Any]) -> list[str]:
    return [warning["code"] for warning in told["warnings"]]


def is_ready(readiness: Callable[[], tuple[int, Any]]) -> bool:
    status, told = readiness()
    assert (status == 200) is told["ready"]
    return status == 200


def test_a_server_that_goes_and_comes_back(house: House) -> None:
    with running_server() as server:
        ledger = open_ledger(server.url(TEMPLATE))
        ledger.migrate()
        with live(house, deps=replace(house.deps, ledger=ledger)) as served:
            server.stop()
            wait_until(lambda: not is_ready(served.readiness))
            told = served.readiness()[1]
            assert not told["ledger"]
            assert "record_unwritable" in codes(told)
            server.start()
            wait_until(lambda: is_ready(served.readiness))
        ledger.close()


def test_a_record_that_stays_locked_is_not_ready(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "_STALE_AFTER", 0.5)
    with live(house) as served:
        holder = sqlite3.connect(tmp_path / "tailorbird.db", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        wait_until(lambda: not is_ready(served.readiness))
        assert codes(served.readiness()[1]) == ["record_silent"]
        holder.execute("ROLLBACK")
        holder.close()
        wait_until(lambda: is_ready(served.readiness))


def test_a_look_that_fails_ends_no_looks(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readiness names the loop that fails, and a metric counts; it goes on by itself."""
    monkeypatch.setattr(background_loop, "_FIRST_PAUSE", 0.05)
    whole, broken = gateway.examine, threading.Event()

    def examine(deps: Dependencies) -> WorkspaceHealth:
        if broken.is_set():
            raise KeyError("a customer's words")
        return whole(deps)

    monkeypatch.setattr(gateway, "examine", examine)
    with live(house) as served:
        wait_until(lambda: is_ready(served.readiness))
        broken.set()
        wait_until(lambda: served.readiness()[1]["failing"] == ["health of the workspace"])
        assert served.readiness()[0] == 503
        told = httpx.get(f"{served.url}/metrics", timeout=10).text
        broken.clear()
        wait_until(lambda: is_ready(served.readiness))
    counted = re.search(r'tailorbird_loop_failures\{loop="health of the workspace"\} ([0-9.]+)', told)
    assert counted is not None
    assert float(counted[1]) >= 2
